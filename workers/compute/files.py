"""Sizes and digests of files, read in pieces."""

import hashlib
from pathlib import Path

import zstandard

CHUNK_BYTES = 1 << 20
ZSTD_LEVEL = 3  # the level that downloads are compressed with


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def zstd_bytes_of(path: Path) -> int:
    """Return how many bytes the file takes after zstd, without keeping them."""
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj(size=path.stat().st_size)
    total = 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            total += len(compressor.compress(chunk))
    return total + len(compressor.flush())
