"""Models in several files: what archive is taken apart, and how our own are put together."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from app import errors
from tests.workers.graph.networks import cnn
from tests.workers.importers.several_files import ARRAY, referring, split, zipped
from tests.workers.importers.small_models import model
from workers.compute import bundles
from workers.compute.archives import Budget
from workers.compute.graph import model as module
from workers.compute.graph.model import load, save

Archived = Callable[[Path], Path]
GOOD = {"m.onnx": referring(location="w"), "w": ARRAY.tobytes()}
LINK = 0o120777


def of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Archived:
    return lambda path: zipped(path, members, method)


def linked(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m.onnx", GOOD["m.onnx"])
        entry = zipfile.ZipInfo("w")
        entry.create_system, entry.external_attr = 3, LINK << 16
        archive.writestr(entry, "/etc/passwd")
    return path


def lying(path: Path) -> Path:
    """State a tenth of what the data file unpacks to."""
    zipped(path, GOOD | {"w": b"\0" * 20_000})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 2_000)
    path.write_bytes(content)
    return path


def no_zip(path: Path) -> Path:
    path.write_bytes(b"PK\x03\x04" + b"x" * 64)
    return path


REFUSED: dict[str, tuple[Archived, type[errors.ModelpressError]]] = {
    "two models": (of(GOOD | {"n.ONNX": b"x"}), errors.ModelExternalData),
    "no model": (of({"data.pkl": b"x", "w": b"x"}), errors.FormatUnsafe),
    "no zip": (no_zip, errors.ArchiveMalformed),
    "data in a subfolder": (of({"m.onnx": b"x", "a/w": b"x"}), errors.ModelExternalData),
    "data above the model": (of({"a/m.onnx": b"x", "w": b"x"}), errors.ModelExternalData),
    "traversal": (of(GOOD | {"../w": b"x"}), errors.ArchiveUnsafe),
    "absolute": (of(GOOD | {"/w": b"x"}), errors.ArchiveUnsafe),
    "same name twice": (of(GOOD | {"W": b"x"}), errors.ArchiveUnsafe),
    "name too long": (of(GOOD | {"w" * 256: b"x"}), errors.ArchiveUnsafe),
    "link": (linked, errors.ArchiveUnsafe),
    "bomb": (of(GOOD | {"w": b"\0" * (80 << 20)}), errors.ArchiveBomb),
    "over the budget": (of(GOOD | {"w": b"\0" * 200_000}, zipfile.ZIP_STORED), errors.ArchiveBomb),
    "lying size": (lying, errors.ArchiveMalformed),
}


@pytest.mark.parametrize("name", REFUSED)
def test_archive_is_refused_when_it_is_not_one_model_and_its_data(name: str, tmp_path: Path) -> None:
    build, kind = REFUSED[name]
    limit = 100_000 if name == "over the budget" else 1 << 30

    with pytest.raises(kind) as refusal:
        bundles.unpack(build(tmp_path / "upload"), tmp_path / "a" / "b", Budget(max_bytes=limit))

    assert type(refusal.value) is kind
    assert str(tmp_path) not in refusal.value.detail
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("top", ["", "my model/"])
def test_files_lie_side_by_side_when_unpacked(method: int, top: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "upload", {top + name: content for name, content in GOOD.items()}, method)

    found = bundles.unpack(path, tmp_path / "unpacked", Budget())

    assert found == tmp_path / "unpacked" / "m.onnx"
    assert {one.name: one.read_bytes() for one in found.parent.iterdir()} == GOOD


def test_kind_of_archive_is_told_by_its_members(tmp_path: Path) -> None:
    assert bundles.holds_onnx(zipped(tmp_path / "a", GOOD))
    assert not bundles.holds_onnx(zipped(tmp_path / "b", {"config.json": b"{}", "model.safetensors": b""}))
    assert not bundles.holds_onnx(zipped(tmp_path / "c", {"model.safetensors": b"", "onnx/model.onnx": b""}))


def test_small_model_is_copied_when_packed(tmp_path: Path) -> None:
    save(cnn(), tmp_path / "model.onnx")

    bundles.pack(tmp_path / "model.onnx", tmp_path / "out.onnx")

    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()
    assert bundles.opened(tmp_path / "out.onnx", tmp_path / "unpacked") == tmp_path / "out.onnx"


def test_large_model_runs_as_before_when_packed_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10_000)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(cnn(), tmp_path / folder / "model.onnx")
        bundles.pack(tmp_path / folder / "model.onnx", tmp_path / folder / "out.onnx")
    assert (tmp_path / "a" / "out.onnx").read_bytes() == (tmp_path / "b" / "out.onnx").read_bytes()

    found = bundles.opened(tmp_path / "a" / "out.onnx", tmp_path / "unpacked")

    assert {one.name for one in found.parent.iterdir()} == {"model.onnx", "model.onnx.data"}
    assert bundles.size_bytes(found) == sum(one.stat().st_size for one in found.parent.iterdir())
    assert 0 < bundles.zstd_bytes(found) < bundles.size_bytes(found)
    assert bundles.digests(found) == bundles.digests(tmp_path / "b" / "model.onnx")
    onnxruntime.InferenceSession(found, providers=["CPUExecutionProvider"])
    for name in cnn().weights():
        np.testing.assert_array_equal(load(found).read(name), cnn().read(name))


@pytest.mark.parametrize("together", [True, False])
def test_files_of_onnxs_own_writer_are_taken(together: bool, tmp_path: Path) -> None:
    files = split(model(), tmp_path / "written", together=together)

    found = bundles.unpack(zipped(tmp_path / "upload", files), tmp_path / "unpacked", Budget())

    assert found.name == "net.onnx"
