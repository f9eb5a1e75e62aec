"""Zip archives that must be refused, and how much of them is unpacked first."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app import errors
from workers.compute.archives import Archive, Budget


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, contents in members.items():
            made.writestr(name, contents)
    return stream.getvalue()


def named(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name in names:
            made.writestr(zipfile.ZipInfo(name), b"x")
    return stream.getvalue()


def link() -> bytes:
    stream = io.BytesIO()
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr(info, "/etc/passwd")
    return stream.getvalue()


def changed(contents: bytes, offset_of: bytes, shift: int, new: bytes) -> bytes:
    at = contents.rindex(offset_of) + shift
    return contents[:at] + new + contents[at + len(new) :]


def encrypted() -> bytes:
    return changed(archive(a=b"x"), b"PK\x01\x02", 8, b"\x01\0")


def lying_size() -> bytes:
    """The directory says 10 bytes, the body has a million."""
    return changed(archive(a=b"\0" * 1_000_000), b"PK\x01\x02", 24, struct.pack("<I", 10))


def wrong_checksum() -> bytes:
    return changed(archive(a=b"hello"), b"PK\x01\x02", 16, b"\0\0\0\0")


def overlapping() -> bytes:
    """Two directory entries for one body, as an overlap bomb has them."""
    made = archive(a=b"x" * 1000, b=b"x" * 1000)
    return changed(made, b"PK\x01\x02", 42, struct.pack("<I", 0))


CASES: dict[str, tuple[Callable[[], bytes], type[errors.ModelpressError]]] = {
    "empty": (lambda: b"", errors.ArchiveMalformed),
    "random": (lambda: b"abc" * 100, errors.ArchiveMalformed),
    "truncated": (lambda: archive(a=b"x" * 1000)[:-30], errors.ArchiveMalformed),
    "parent": (lambda: named("../../x"), errors.ArchiveUnsafe),
    "absolute": (lambda: named("/etc/x"), errors.ArchiveUnsafe),
    "backslashes": (lambda: named("..\\..\\x"), errors.ArchiveUnsafe),
    "drive": (lambda: named("C:x"), errors.ArchiveUnsafe),
    "dot": (lambda: named("a/./b"), errors.ArchiveUnsafe),
    "control characters": (lambda: named("a\x1bb"), errors.ArchiveUnsafe),
    "case twins": (lambda: named("Config.json", "config.json"), errors.ArchiveUnsafe),
    "link": (link, errors.ArchiveUnsafe),
    "encrypted": (encrypted, errors.ArchiveUnsafe),
    "overlapping": (overlapping, errors.ArchiveUnsafe),
    "lying size": (lying_size, errors.ArchiveMalformed),
    "wrong checksum": (wrong_checksum, errors.ArchiveMalformed),
    "bomb": (lambda: archive(a=b"\0" * 2_000_000), errors.ArchiveBomb),
}


@pytest.mark.parametrize("name", CASES)
def test_archive_is_refused_by_name(name: str, tmp_path: Path) -> None:
    build, kind = CASES[name]
    (tmp_path / "a.zip").write_bytes(build())
    with pytest.raises(kind) as refusal:
        opened = Archive(tmp_path / "a.zip", Budget(free_bytes=1 << 20))
        for member in opened.members:
            opened.read(member, 1 << 30)
    assert type(refusal.value) is kind


def test_duplicate_is_refused_when_both_have_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(named("a", "b").replace(b"b", b"a"))
    with pytest.raises(errors.ArchiveUnsafe):
        Archive(tmp_path / "a.zip")


def test_member_comes_back_whole_when_it_spans_many_pieces(tmp_path: Path) -> None:
    contents = bytes(range(256)) * 20_000
    (tmp_path / "a.zip").write_bytes(archive(a=contents))
    assert bytes(Archive(tmp_path / "a.zip").read("a", 1 << 30)) == contents


def test_small_file_of_zeros_is_no_bomb(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archive(a=b"\0" * 2_000_000))
    assert len(Archive(tmp_path / "a.zip").read("a", 1 << 30)) == 2_000_000
