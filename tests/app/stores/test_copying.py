from pathlib import Path

import pytest

from app.stores import copying
from app.stores.blobs import Blobs, address, zstd_address


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Blobs, Blobs]:
    return Blobs.open(f"file://{tmp_path}/from"), Blobs.open(f"file://{tmp_path}/to")


def _stored(blobs: Blobs, folder: Path, content: bytes) -> str:
    path = folder / "content.bin"
    path.write_bytes(content)
    return blobs.put_file(path).sha256


async def _read(blobs: Blobs, sha256: str) -> bytes:
    return b"".join([chunk async for chunk in blobs.stream(sha256)])


async def test_copy_brings_every_object(stores: tuple[Blobs, Blobs], tmp_path: Path) -> None:
    source, target = stores
    digest = _stored(source, tmp_path, b"weights" * 1_000)
    with (tmp_path / "content.bin").open("rb") as file:
        source.make_zstd(digest, file)

    found = copying.copy(source, target)

    assert (found.sent, found.kept, found.damaged) == (2, 0, [])
    assert await _read(target, digest) == b"weights" * 1_000
    assert target.holds(zstd_address(digest))


def test_copy_sends_only_what_is_new_when_it_runs_again(stores: tuple[Blobs, Blobs], tmp_path: Path) -> None:
    source, target = stores
    _stored(source, tmp_path, b"old")
    copying.copy(source, target)
    _stored(source, tmp_path, b"new")

    found = copying.copy(source, target)

    assert (found.sent, found.sent_bytes, found.kept) == (1, 3, 1)


def test_copy_keeps_no_damaged_object(stores: tuple[Blobs, Blobs], tmp_path: Path) -> None:
    source, target = stores
    digest = _stored(source, tmp_path, b"whole")
    (tmp_path / "from" / address(digest)).write_bytes(b"wrong")

    found = copying.copy(source, target)

    assert found.damaged == [address(digest)]
    assert not target.exists(digest)


def test_copy_brings_pieces_of_uploads_and_nothing_from_the_trash(stores: tuple[Blobs, Blobs], tmp_path: Path) -> None:
    source, target = stores
    for key in ("uploads/upl_1/0", "trash/1/sha256/00", "tmp/1"):
        path = tmp_path / "from" / key
        path.parent.mkdir(parents=True)
        path.write_bytes(b"piece")

    copying.copy(source, target)

    assert [key for key in ("uploads/upl_1/0", "trash/1/sha256/00", "tmp/1") if target.holds(key)] == [
        "uploads/upl_1/0"
    ]


def test_main_when_something_is_damaged_says_so(
    stores: tuple[Blobs, Blobs], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = _stored(stores[0], tmp_path, b"whole")
    (tmp_path / "from" / address(digest)).write_bytes(b"wrong")

    code = copying.main([f"file://{tmp_path}/from", f"file://{tmp_path}/to"])

    assert code == 1
    assert address(digest) in capsys.readouterr().err
