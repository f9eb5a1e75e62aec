"""Jobs on models of 2 GiB and more, with the limit lowered: zips in, zips out, and the same figures."""

import io
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from pydantic import TypeAdapter

from app.contracts.report import Report
from app.contracts.steps.quantize_int8 import QuantizeInt8
from app.contracts.tasks import BenchmarkOrder, CompressOrder
from tests.workers.compute.orders import compress, digits, digits_npz, mlp
from tests.workers.graph.networks import answers, cnn, rows_for
from tests.workers.techniques.steps import take
from workers.compute import benchmarking, bundles, pipeline
from workers.compute.channel import Channel
from workers.compute.files import sha256_of
from workers.compute.graph import model as module
from workers.compute.graph.model import load, save

PRUNE = {"technique": "prune_weights", "sparsity": 0.5, "epochs": 0}
NAMES = ["model.onnx", "model.onnx.data"]


@pytest.fixture(autouse=True)
def _low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 5_000)


def ran(scratch: Path, *steps: dict[str, object]) -> Report:
    for folder in ("out", "tmp"):
        (scratch / folder).mkdir()
    digits_npz(scratch / "digits.npz")
    order = TypeAdapter(CompressOrder).validate_python(compress(*steps, device="cpu"))
    report = pipeline.run(order, scratch, Channel(io.StringIO())).report
    assert report is not None
    return report


def upload(scratch: Path, name: str = "model.onnx") -> Path:
    """Lay down a checked model as the worker fetches it."""
    saved = scratch / "saved" / "model.onnx"
    saved.parent.mkdir()
    save(load(mlp(scratch / "whole.onnx")), saved)
    bundles.pack(saved, scratch / name)
    return scratch / name


def unzipped(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == NAMES
        archive.extractall(folder)
    return folder / "model.onnx"


def test_artifact_is_a_zip_that_stock_runtime_opens_when_unpacked(tmp_path: Path) -> None:
    upload(tmp_path)

    report = ran(tmp_path, PRUNE)

    images, labels = digits()
    for variant in ("packed", "dense"):
        opened = unzipped(tmp_path / "out" / f"{variant}.onnx", tmp_path / variant)
        session = onnxruntime.InferenceSession(opened, providers=["CPUExecutionProvider"])
        found = session.run(["logits"], {"image": images})[0].argmax(1)
        assert (found == labels).mean() > 0.8
    assert report.before.file_bytes > 64 * 96 * 4
    assert report.after.file_bytes == sum((tmp_path / "packed" / name).stat().st_size for name in NAMES)
    assert report.digests["packed"] == sha256_of(tmp_path / "out" / "packed.onnx")


def test_step_that_changes_only_weights_is_seen_as_a_change(tmp_path: Path) -> None:
    upload(tmp_path)

    report = ran(tmp_path, PRUNE, PRUNE)

    assert [step.changed for step in report.steps] == [True, False]
    assert not list(tmp_path.glob("step-0*"))


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_quantizer_reads_weights_in_a_second_file(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 20_000)  # of the model's 42 kB
    model = cnn()
    rows = rows_for(model, 32)

    outcome = take(QuantizeInt8.model_validate({"mode": mode}), model, tmp_path)

    before, after = answers(model, rows), answers(outcome.model, rows)
    assert float(np.square(before - after).mean() / np.square(before - before.mean()).mean()) < 0.01
    assert not list(tmp_path.iterdir())


def test_benchmark_compares_zips(tmp_path: Path) -> None:
    upload(tmp_path, "a.onnx")
    mlp(tmp_path / "b.onnx")
    spec = {"batch_sizes": [1], "threads": 1, "max_seconds": 1}
    order = BenchmarkOrder.model_validate({"candidate": "a.onnx", "original": "b.onnx", "spec": spec})

    result = benchmarking.run(order, tmp_path, Channel(io.StringIO())).benchmark

    assert result is not None
    assert result.size_ratio == pytest.approx(1, rel=0.1)
    assert np.isfinite(result.speedups["1@1"].value)
