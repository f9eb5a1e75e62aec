import asyncio
import hashlib
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from app.errors import ArtifactCorrupt, ArtifactMissing, DependencyUnavailable, InsufficientStorage
from app.stores.blobs import Blobs, Piece, address, zstd_address
from app.stores.sinks import BATCH_BYTES, Stored
from app.stores.staging import Segment, Segments, part_address

CONTENT = os.urandom(3 << 20)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=["memory", "file"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return Blobs.open("memory:///" if request.param == "memory" else f"file://{tmp_path}/blobs")


async def stream(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def broken(content: bytes) -> AsyncIterator[bytes]:
    yield content
    raise ConnectionResetError


async def read(blobs: Blobs, sha256: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in blobs.stream(sha256, start, end)])


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_stream_is_kept_under_its_digest(blobs: Blobs) -> None:
    assert await blobs.put_stream(stream(CONTENT)) == Stored(DIGEST, len(CONTENT))
    assert await read(blobs, DIGEST) == CONTENT
    assert (blobs.size(DIGEST), blobs.exists(DIGEST)) == (len(CONTENT), True)


async def test_an_empty_stream_is_kept_too(blobs: Blobs) -> None:
    stored = await blobs.put_stream(stream(b""))
    assert stored == Stored(hashlib.sha256().hexdigest(), 0)
    assert await read(blobs, stored.sha256) == b""


async def test_equal_bytes_are_kept_once(tmp_path: Path) -> None:
    blobs = Blobs.open(f"file://{tmp_path}")
    await asyncio.gather(*(blobs.put_stream(stream(CONTENT)) for _ in range(4)))
    assert files(tmp_path) == [address(DIGEST)]


async def test_nothing_is_left_when_a_stream_breaks(tmp_path: Path) -> None:
    blobs = Blobs.open(f"file://{tmp_path}")
    with pytest.raises(ConnectionResetError):
        await blobs.put_stream(broken(os.urandom(3 * BATCH_BYTES)))
    assert files(tmp_path) == []


async def test_pieces_are_composed_in_order(blobs: Blobs) -> None:
    keys = [part_address("upl_1", offset) for offset in (0, 1 << 20)]
    await blobs.put_part(keys[0], stream(CONTENT[: 1 << 20]))
    await blobs.put_part(keys[1], stream(CONTENT[1 << 20 :] + b"never recorded"))
    pieces = [Piece(keys[0], 1 << 20), Piece(keys[1], len(CONTENT) - (1 << 20))]
    assert blobs.compose(pieces) == Stored(DIGEST, len(CONTENT))
    blobs.delete_upload("upl_1")
    with pytest.raises(ArtifactMissing):
        blobs.compose(pieces)
    assert await read(blobs, DIGEST) == CONTENT


async def test_too_short_a_piece_is_named_as_missing(blobs: Blobs) -> None:
    key = part_address("upl_1", 0)
    await blobs.put_part(key, stream(b"abc"))
    with pytest.raises(ArtifactMissing):
        blobs.compose([Piece(key, 4)])


async def test_a_segment_grows_and_knows_its_digest(blobs: Blobs) -> None:
    segment, digest = Segment("upl_1", 0), hashlib.sha256()
    first = await blobs.extend(segment, stream(CONTENT[:100]))
    second = await blobs.extend(segment, stream(CONTENT[100:]), digest)
    assert (segment.digest.hexdigest(), segment.reached) == (DIGEST, len(CONTENT))
    assert digest.digest() == hashlib.sha256(CONTENT[100:]).digest()
    pieces = [first, second] if first.key != second.key else [Piece(first.key, len(CONTENT))]
    assert blobs.compose(pieces).sha256 == DIGEST


async def test_a_segment_on_disk_is_one_file_that_keeps_what_it_had_when_a_stream_breaks(tmp_path: Path) -> None:
    blobs, segment = Blobs.open(f"file://{tmp_path}"), Segment("upl_1", 0)
    await blobs.extend(segment, stream(CONTENT))
    with pytest.raises(ConnectionResetError):
        await blobs.extend(segment, broken(os.urandom(BATCH_BYTES)))
    assert files(tmp_path) == [segment.key]
    assert (tmp_path / segment.key).read_bytes() == CONTENT


async def test_a_segment_on_disk_takes_its_final_name_without_a_copy(tmp_path: Path) -> None:
    blobs, segment = Blobs.open(f"file://{tmp_path}"), Segment("upl_1", 0)
    piece = await blobs.extend(segment, stream(CONTENT))
    blobs.adopt(piece.key, Stored(DIGEST, len(CONTENT)), keep=True)
    assert (tmp_path / piece.key).samefile(tmp_path / address(DIGEST))


async def test_a_broken_fresh_segment_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs.open(f"file://{tmp_path}")
    with pytest.raises(ConnectionResetError):
        await blobs.extend(Segment("upl_1", 0), broken(os.urandom(BATCH_BYTES)))
    assert files(tmp_path) == []


async def test_a_cancelled_stream_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs.open(f"file://{tmp_path}")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield CONTENT

    task = asyncio.create_task(blobs.extend(Segment("upl_1", 0), endless()))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path) == []


def test_a_segment_goes_on_only_where_it_stopped() -> None:
    segments, segment = Segments(), Segment("upl_1", 5, 10)
    segments.rest(segment)
    assert segments.take("upl_1", 15) is segment
    assert segments.take("upl_1", 15) is not segment  # it is out
    segments.rest(segment)
    assert segments.take("upl_1", 20).start == 20


async def test_a_single_part_is_adopted_without_copying(blobs: Blobs) -> None:
    key = part_address("upl_2", 0)
    blobs.adopt(key, await blobs.put_part(key, stream(CONTENT)))
    assert await read(blobs, DIGEST) == CONTENT


@pytest.mark.parametrize(("start", "end"), [(0, 1), (5, 100), (1 << 20, None), (len(CONTENT) - 1, None), (7, 7)])
async def test_a_range_is_streamed(blobs: Blobs, start: int, end: int | None) -> None:
    await blobs.put_stream(stream(CONTENT))
    assert await read(blobs, DIGEST, start, end) == CONTENT[start:end]


async def test_a_file_is_stored_and_fetched(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    assert blobs.put_file(tmp_path / "a").sha256 == DIGEST
    assert blobs.fetch(DIGEST, tmp_path / "b") == len(CONTENT)
    assert (tmp_path / "b").read_bytes() == CONTENT


async def test_a_zstd_copy_is_made_once(blobs: Blobs, tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"weights" * 100_000)
    sha256 = blobs.put_file(path).sha256
    with path.open("rb") as file:
        copy = blobs.make_zstd(sha256, file)
        assert blobs.make_zstd(sha256, file) == copy
    assert blobs.zstd_size(sha256) == copy.size_bytes
    content = b"".join([chunk async for chunk in blobs.stream_zstd(sha256, copy.sha256)])
    assert copy == Stored(hashlib.sha256(content).hexdigest(), len(content))
    assert zstandard.ZstdDecompressor().decompress(content) == path.read_bytes()
    with pytest.raises(ArtifactCorrupt):
        _ = [chunk async for chunk in blobs.stream_zstd(sha256, "0" * 64)]
    assert content == b"".join([chunk async for chunk in blobs.stream_zstd(sha256, None)])
    blobs.delete([zstd_address(sha256)])
    assert blobs.zstd_size(sha256) is None


async def test_flipped_bytes_are_never_handed_out_as_whole(tmp_path: Path) -> None:
    blobs = Blobs.open(f"file://{tmp_path}/blobs")
    await blobs.put_stream(stream(CONTENT))
    path = tmp_path / "blobs" / address(DIGEST)
    path.write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])
    with pytest.raises(ArtifactCorrupt):
        blobs.fetch(DIGEST, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    got = []
    with pytest.raises(ArtifactCorrupt):
        got.extend([chunk async for chunk in blobs.stream(DIGEST)])
    assert sum(map(len, got)) < len(CONTENT)


async def test_a_part_of_damaged_bytes_is_not_handed_out(tmp_path: Path) -> None:
    blobs = Blobs.open(f"file://{tmp_path}/blobs")
    await blobs.put_stream(stream(CONTENT))
    assert await read(blobs, DIGEST, 10, 20) == CONTENT[10:20]
    path = tmp_path / "blobs" / address(DIGEST)
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(ArtifactCorrupt):
        await read(blobs, DIGEST, 10, 20)


async def test_missing_bytes_are_named_as_missing(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing):
        blobs.fetch("0" * 64, tmp_path / "x")
    with pytest.raises(ArtifactMissing):
        await blobs.verify("0" * 64)


async def test_a_full_store_is_named_as_full_and_keeps_nothing(tmp_path: Path) -> None:
    blobs = Blobs.open(f"file://{tmp_path}")
    with largest_file(1 << 20), pytest.raises(InsufficientStorage):
        await blobs.put_stream(stream(os.urandom(40 << 20)))
    assert files(tmp_path) == []


async def test_an_unreachable_store_is_named_as_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENDPOINT": "http://127.0.0.1:1", "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "key"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    blobs = Blobs.open("s3://bucket/prefix")
    assert await asyncio.to_thread(blobs.ping) is False
    with pytest.raises(DependencyUnavailable):
        await blobs.put_stream(stream(b"x"))


def test_a_store_that_answers_is_pinged(blobs: Blobs) -> None:
    assert blobs.ping()


@pytest.mark.slow
async def test_a_gibibyte_passes_in_little_memory(tmp_path: Path) -> None:
    blobs, chunk = Blobs.open(f"file://{tmp_path}"), os.urandom(1 << 16)

    async def gibibyte() -> AsyncIterator[bytes]:
        for _ in range(1 << 14):
            yield chunk

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stored = await blobs.put_stream(gibibyte())
    await blobs.verify(stored.sha256)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert stored.size_bytes == 1 << 30
    assert grown < 64 << 20
