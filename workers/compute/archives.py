"""Read zip archives from strangers: refuse what is odd instead of repairing it, and count every byte unpacked.

The standard library parses the directory; members are checked and unpacked here, because `zipfile` of Python < 3.11.8
follows overlapping members (CVE-2024-0450) and lets a repeated name win silently.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.errors import ArchiveBomb, ArchiveMalformed, ArchiveUnsafe
from workers.compute.wording import shown

CHUNK_BYTES = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNIX = 3


@dataclass(frozen=True)
class Budget:
    """What an archive may unpack to. The ratio counts only beyond `free_bytes`, since small files cannot hurt."""

    max_bytes: int = 8 << 30
    max_ratio: int = 200
    free_bytes: int = 64 << 20
    max_members: int = 10_000


@dataclass(frozen=True)
class Member:
    """A plain file inside an archive; `size_bytes` is what its header claims."""

    name: str
    size_bytes: int
    info: zipfile.ZipInfo


class Archive:
    """A zip file whose directory has passed every rule; members are unpacked as streams."""

    def __init__(self, path: Path, budget: Budget | None = None) -> None:
        """Open and check the directory. Raises ArchiveMalformed, ArchiveUnsafe, ArchiveBomb."""
        self._path = path
        self._budget = budget or Budget()
        self._unpacked = 0
        self._packed_bytes = max(path.stat().st_size, 1)
        self.members = {member.name: member for member in self._directory()}

    def _directory(self) -> Iterator[Member]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                entries = archive.infolist()
                end = archive.start_dir
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, EOFError) as error:
            raise ArchiveMalformed("The file is not a readable zip archive, or it is cut short.") from error
        if len(entries) > self._budget.max_members:
            raise ArchiveBomb(f"The archive has {len(entries):,} members; the limit is {self._budget.max_members:,}.")
        seen: set[str] = set()
        for info in entries:
            _refuse_unsafe(info, seen)
            seen.add(info.filename.casefold())
        _refuse_overlaps(entries, end)
        claimed = sum(info.file_size for info in entries)
        self._within(claimed)
        return (Member(info.filename, info.file_size, info) for info in entries if not info.is_dir())

    def _within(self, unpacked: int) -> None:
        ratio = unpacked // self._packed_bytes
        too_dense = unpacked > self._budget.free_bytes and ratio > self._budget.max_ratio
        if unpacked > self._budget.max_bytes or too_dense:
            raise ArchiveBomb(
                f"The archive unpacks to over {unpacked:,} bytes, {ratio} times its size; "
                f"the limits are {self._budget.max_bytes:,} bytes and {self._budget.max_ratio} times."
            )

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the member's bytes in pieces of about 1 MiB; the budgets run over all members together.

        Raises ArchiveMalformed when length or checksum differ from the directory.
        """
        member = self.members[name]
        checksum, length = 0, 0
        with self._path.open("rb") as stream:
            for chunk in _inflated(stream, member.info):
                length += len(chunk)
                self._unpacked += len(chunk)
                self._within(self._unpacked)
                if length > member.size_bytes:
                    break
                checksum = zlib.crc32(chunk, checksum)
                yield chunk
        if length != member.size_bytes or checksum != member.info.CRC:
            raise ArchiveMalformed(f"Member {shown(name)!r} does not have the length or checksum that is recorded.")

    def read(self, name: str, limit_bytes: int) -> bytearray:
        """Return a whole member. Raises ArchiveBomb if it is over `limit_bytes`."""
        size = self.members[name].size_bytes
        if size > limit_bytes:
            raise ArchiveBomb(f"Member {shown(name)!r} has {size:,} bytes; the limit is {limit_bytes:,}.")
        whole = bytearray()
        for chunk in self.chunks(name):
            whole += chunk
        return whole


def _refuse_unsafe(info: zipfile.ZipInfo, seen: set[str]) -> None:
    name, raw = info.filename, info.orig_filename
    parts = name.rstrip("/").split("/")
    if "\0" in raw or "\\" in raw or not name.isprintable() or name.startswith("/") or ":" in parts[0]:
        raise ArchiveUnsafe(f"Member {shown(raw)!r} does not have a plain relative name.")
    if any(part in {"", ".", ".."} for part in parts):
        raise ArchiveUnsafe(f"Member {shown(raw)!r} leaves its folder.")
    if name.casefold() in seen:
        raise ArchiveUnsafe(f"Member {shown(raw)!r} occurs twice.")
    mode = info.external_attr >> 16
    if info.create_system == _UNIX and stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise ArchiveUnsafe(f"Member {shown(raw)!r} is a link or a device.")
    if info.flag_bits & _ENCRYPTED:
        raise ArchiveUnsafe(f"Member {shown(raw)!r} is encrypted.")
    if info.compress_type not in _METHODS:
        raise ArchiveMalformed(f"Member {shown(raw)!r} is neither stored nor deflated.")


def _refuse_overlaps(entries: list[zipfile.ZipInfo], end: int) -> None:
    spans = sorted(
        (info.header_offset, info.header_offset + _LOCAL_HEADER.size + info.compress_size) for info in entries
    )
    if any(start < 0 for start, _ in spans):  # what zipfile makes of a directory that does not fit the file
        raise ArchiveMalformed("The archive's directory points outside the file.")
    for (_, stop), (start, _) in zip(spans, [*spans[1:], (end, end)], strict=True):
        if stop > start:
            raise ArchiveUnsafe("Members of the archive overlap.")


def _inflated(stream: BinaryIO, info: zipfile.ZipInfo) -> Iterator[bytes]:
    stream.seek(info.header_offset)
    head = stream.read(_LOCAL_HEADER.size)
    if len(head) < _LOCAL_HEADER.size or not head.startswith(_LOCAL_MAGIC):
        raise ArchiveMalformed(f"Member {shown(info.filename)!r} has no header.")
    name_bytes, extra_bytes = _LOCAL_HEADER.unpack(head)[-2:]
    stream.seek(name_bytes + extra_bytes, 1)
    left = info.compress_size
    inflater = zlib.decompressobj(-zlib.MAX_WBITS) if info.compress_type == zipfile.ZIP_DEFLATED else None
    try:
        while left and (packed := stream.read(min(left, CHUNK_BYTES))):
            left -= len(packed)
            yield from [packed] if inflater is None else _pieces(inflater, packed)
    except zlib.error as error:
        raise ArchiveMalformed(f"Member {shown(info.filename)!r} cannot be unpacked.") from error


def _pieces(inflater: "zlib._Decompress", packed: bytes) -> Iterator[bytes]:
    """Inflate in bounded pieces: one packed megabyte may stand for a gigabyte."""
    while packed:
        yield inflater.decompress(packed, CHUNK_BYTES)
        packed = inflater.unconsumed_tail
