"""What has to hold on every device: the processor's tests run anywhere, CUDA's where there is one.

`pytest -m gpu` runs CUDA's alone.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from app.contracts.tasks import Done
from tests.workers.autograd import graphs
from tests.workers.autograd.test_training import QUICK, cnn, picture_set, pictures, texts
from tests.workers.compute.orders import compress, digits_npz, mlp, tell
from workers.compute.autograd.logits import Logits, asked_by_default
from workers.compute.autograd.training import fit, predict
from workers.compute.datasets.samples import Samples

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
DEVICES = ["cpu", CUDA]
# Convolutions on a GPU may round what goes into a product to 10 bits (TF32).
_TOLERANCE = {"cpu": 1e-4, "cuda": 5e-3}
_TRAINED: list[list[dict[str, Any]]] = [
    [{"technique": "distill", "epochs": 1}, {"technique": "quantize_int8", "mode": "qat", "epochs": 1}],
    [{"technique": "prune_weights", "sparsity": 0.5, "epochs": 1}, {"technique": "share_weights", "epochs": 1}],
    [{"technique": "prune_neurons", "ratio": 0.5, "importance": "gradient_norm", "epochs": 1}],
    [{"technique": "merge_neurons", "ratio": 0.3, "epochs": 1}, {"technique": "factorize", "epochs": 1}],
    [{"technique": "ternarize", "epochs": 1}],
    [{"technique": "binarize", "epochs": 1}],
    [{"technique": "retrain", "epochs": 1}, {"technique": "quantize_int4", "epochs": 1}],
]


def graph_and_rows(kind: str) -> tuple[Any, Samples]:
    if kind == "cnn":
        return graphs.cnn(), pictures(70, 0)
    return graphs.encoder(17), texts(70, 0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["cnn", "encoder"])
def test_answers_are_those_of_onnx_runtime(device: str, kind: str) -> None:
    proto, rows = graph_and_rows(kind)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, rows.inputs)

    found = predict(graphs.model(proto), rows, device=device, threads=1)

    for name, value in zip([output.name for output in session.get_outputs()], expected, strict=True):
        assert np.allclose(found[name], value, atol=_TOLERANCE[device], rtol=_TOLERANCE[device])


@pytest.mark.parametrize("device", DEVICES)
def test_training_learns(device: str) -> None:
    model = cnn()
    curve = fit(model, picture_set(), replace(QUICK, device=device))
    scores = [point.validation_score for point in curve if point.validation_score is not None]
    assert max(scores) > scores[0] + 0.2
    assert all(np.isfinite(model.read(name)).all() for name in model.weights())


@pytest.mark.parametrize("device", DEVICES)
def test_what_a_teacher_answered_here_is_learned_from_elsewhere(device: str, tmp_path: Path) -> None:
    teacher = cnn()
    asked_by_default(teacher, picture_set(), (device, 1, 0), lambda _share: None).save(tmp_path / "logits")
    known = Logits(teacher)
    known.load(tmp_path / "logits")
    for other in ("cpu", device):
        curve = fit(
            cnn(1), picture_set(), replace(QUICK, epochs=1, alpha=0.5, device=other, logits=known), teacher=teacher
        )
        assert curve


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("steps", _TRAINED, ids=lambda steps: "+".join(step["technique"] for step in steps))
def test_recipe_runs_and_its_file_is_measured(device: str, steps: list[dict[str, Any]], tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    digits_npz(tmp_path / "digits.npz")

    told = tell(tmp_path, compress(*steps, device=device))

    assert isinstance(told.last, Done), told.errors
    assert told.last.report is not None
    assert told.last.report.environment.device == device
    accuracy = next(change for change in told.last.report.changes if change.figure == "accuracy")
    assert accuracy.after > 0.5  # of ten classes, after a moment of training


@pytest.mark.gpu
def test_a_child_s_end_gives_its_memory_back(tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    digits_npz(tmp_path / "digits.npz")
    before = torch.cuda.mem_get_info()[0]

    told = tell(tmp_path, compress({"technique": "retrain", "epochs": 1}, device="cuda"))

    assert isinstance(told.last, Done), told.errors
    assert torch.cuda.mem_get_info()[0] > before - (64 << 20)


@pytest.mark.gpu
def test_auto_takes_the_gpu(tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    digits_npz(tmp_path / "digits.npz")

    told = tell(tmp_path, compress({"technique": "retrain", "epochs": 1}, device="auto"))

    assert isinstance(told.last, Done), told.errors
    assert told.last.report is not None
    assert told.last.report.environment.device == "cuda"
