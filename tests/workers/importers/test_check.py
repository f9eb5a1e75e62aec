"""Uploads of several files, from the archive to the one file that is stored."""

import io
import resource
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from app import errors
from app.contracts.model import ModelSummary
from app.contracts.tasks import CheckModelOrder
from tests.workers.importers.several_files import ARRAY, referring, split, zipped
from tests.workers.importers.small_models import model, value, weight
from workers.compute import bundles
from workers.compute.channel import Channel
from workers.compute.files import sha256_of
from workers.compute.graph import model as module
from workers.compute.importers import check


@pytest.fixture(autouse=True)
def as_in_a_child() -> Iterator[None]:
    """Give back the memory that a check takes from its process, which is a child's own where the service runs it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def examined(scratch: Path, **changes: object) -> ModelSummary:
    (scratch / "out").mkdir()
    order = CheckModelOrder.model_validate({"path": "upload", "format": "onnx", "threads": 1} | changes)
    found = check.run(order, scratch, Channel(io.StringIO())).model
    assert found is not None
    assert found.sha256 == sha256_of(scratch / "out" / "model.onnx")
    return found


def wide() -> onnx.ModelProto:
    weights = [weight("w", (40, 30))]
    return model(initializers=weights, inputs=[value("x", ["b", 40])], outputs=[value("y", ["b", 30])])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("form", ["onnx", "huggingface"])
def test_model_becomes_one_file_when_it_came_in_several(
    method: int,
    together: bool,
    form: str,
    tmp_path: Path,
) -> None:
    zipped(tmp_path / "upload", split(wide(), tmp_path / "written", together=together), method)

    summary = examined(tmp_path, format=form)

    stored = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    assert stored.graph.initializer[0].raw_data == weight("w", (40, 30)).raw_data
    assert summary.parameters == 1200
    assert summary.onnx_bytes == (tmp_path / "out" / "model.onnx").stat().st_size
    assert not (tmp_path / "unpacked").exists()


def test_model_becomes_a_zip_of_our_own_when_it_is_too_large_for_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 2_000)
    zipped(tmp_path / "upload", split(wide(), tmp_path / "written"))

    summary = examined(tmp_path)

    assert str(tmp_path / "unpacked") not in Path("/proc/self/maps").read_text("utf-8")
    with zipfile.ZipFile(tmp_path / "out" / "model.onnx") as stored:
        assert stored.namelist() == ["model.onnx", "model.onnx.data"]
        assert {entry.compress_type for entry in stored.infolist()} == {zipfile.ZIP_STORED}
        assert summary.onnx_bytes == sum(entry.file_size for entry in stored.infolist())
    found = bundles.opened(tmp_path / "out" / "model.onnx", tmp_path / "again")
    session = onnxruntime.InferenceSession(found, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((2, 40), np.float32)})[0].shape == (2, 30)


def test_upload_is_refused_when_it_unpacks_to_more_than_the_order_allows(tmp_path: Path) -> None:
    zipped(tmp_path / "upload", split(wide(), tmp_path / "written"))

    with pytest.raises(errors.ArchiveBomb):
        examined(tmp_path, max_unpacked_bytes=4_000)


def test_nothing_outside_is_read_when_a_reference_leaves_the_archive(tmp_path: Path) -> None:
    (tmp_path / "canary").write_bytes(ARRAY.tobytes())
    zipped(tmp_path / "upload", {"m.onnx": referring(location="../canary")})

    with pytest.raises(errors.ModelExternalData):
        examined(tmp_path)

    assert not list((tmp_path / "out").iterdir())
