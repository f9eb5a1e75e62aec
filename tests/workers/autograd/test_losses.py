import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from app.errors import DatasetMismatch, TechniqueNotApplicable
from tests.workers.autograd import graphs
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.losses import Head, Objective, check_labels, fitted, heads_for

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]])
TEACHER = torch.tensor([[1.0, 0.5, -1.0], [0.0, 2.0, 0.0]])


def test_softmax_output_is_trained_by_its_logits() -> None:
    (head,) = heads_for(graphs.model(graphs.cnn()), "classification")
    assert (head.output, head.logits, head.link) == ("scores", "logits", "softmax")


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("axis", [1, -1])
def test_softmax_that_is_written_out_is_trained_by_its_exponents(axis: int, *, inverted: bool) -> None:
    model = graphs.model(written_out(axis, inverted=inverted))
    (head,) = heads_for(model, "match")
    assert (head.output, head.logits, head.link, head.axis) == ("scores", "shifted", "softmax", axis)
    rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    found = Executor(model)({"x": rows}, ("scores", "shifted"))
    torch.testing.assert_close(torch.softmax(found["shifted"], -1), found["scores"])


def test_quotient_of_other_things_is_no_softmax() -> None:
    sketch = graphs.Sketch(13)
    axes = sketch.constant("axes", [1])
    powers = sketch.op("Exp", "x")
    sketch.op("Div", powers, sketch.op("ReduceSum", "x", axes), out="scores")
    (head,) = heads_for(graphs.model(sketch.proto({"x": (1, ["N", 4])}, {"scores": (1, ["N", 4])})), "match")
    assert (head.logits, head.link) == ("scores", "identity")


def written_out(axis: int, *, inverted: bool) -> onnx.ModelProto:
    """Softmax of four logits as JAX's exporter writes it."""
    sketch = graphs.Sketch(13)
    axes, whole = sketch.constant("axes", [axis]), sketch.constant("whole", [-1, 1])
    logits = sketch.op("Gemm", "x", sketch.weight("w", 4, 4))
    highest = sketch.op("Reshape", sketch.op("ReduceMax", logits, axes=[axis], keepdims=0), whole)
    powers = sketch.op("Exp", sketch.op("Sub", logits, highest, out="shifted"))
    total = sketch.op("Reshape", sketch.op("ReduceSum", powers, axes, keepdims=0), whole)
    if inverted:
        sketch.op("Mul", sketch.op("Reciprocal", total), powers, out="scores")
    else:
        sketch.op("Div", powers, total, out="scores")
    return sketch.proto({"x": (1, ["N", 4])}, {"scores": (1, ["N", 4])})


def test_label_output_before_the_scores_is_passed_over() -> None:
    sketch = graphs.Sketch(13)
    scores = sketch.op("Softmax", sketch.op("Gemm", "x", sketch.weight("w", 4, 3)), axis=1, out="scores")
    sketch.op("ArgMax", scores, axis=1, keepdims=0, out="label")
    outputs = {"label": (7, ["N"]), "scores": (1, ["N", 3])}
    (head,) = heads_for(graphs.model(sketch.proto({"x": (1, ["N", 4])}, outputs)), "classification")
    assert head.output == "scores"


def test_model_without_scores_is_refused() -> None:
    sketch = graphs.Sketch(13)
    sketch.op("ArgMax", sketch.op("Gemm", "x", sketch.weight("w", 4, 3)), axis=1, keepdims=0, out="label")
    model = graphs.model(sketch.proto({"x": (1, ["N", 4])}, {"label": (7, ["N"])}))
    with pytest.raises(TechniqueNotApplicable, match="scores"):
        heads_for(model, "classification")


def test_classification_mixes_labels_and_teacher_as_hinton_does() -> None:
    labels = torch.tensor([0, 1])
    found = Objective("classification", (Head("y", "z"),), 0.3, 2.0).loss({"z": LOGITS}, labels, [TEACHER])
    soft = F.kl_div(F.log_softmax(LOGITS / 2, -1), F.softmax(TEACHER / 2, -1), reduction="batchmean") * 4
    torch.testing.assert_close(found, 0.3 * F.cross_entropy(LOGITS, labels) + 0.7 * soft)


def test_loss_of_the_teacher_itself_is_zero() -> None:
    for head in (Head("y", "z", "softmax"), Head("y", "z")):
        found = Objective("match", (head,), 0.0, 2.0, (1.0,)).loss({"z": TEACHER}, None, [TEACHER])
        assert float(found) == pytest.approx(0, abs=1e-6)


def test_match_measures_errors_in_the_teachers_variance() -> None:
    objective = Objective("match", (Head("y", "z"),), 0.0, 2.0, (4.0,))
    torch.testing.assert_close(objective.loss({"z": LOGITS}, None, [TEACHER]), F.mse_loss(LOGITS, TEACHER) / 4)


def test_softmax_over_channels_is_compared_over_channels() -> None:
    logits, target = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 3, 4)
    found = Objective("match", (Head("y", "z", "softmax", axis=1),), 0.0, 1.0).loss({"z": logits}, None, [target])
    expected = F.kl_div(F.log_softmax(logits, 1), F.softmax(target, 1), reduction="none").sum(1).mean()
    torch.testing.assert_close(found, expected)


def test_one_score_is_a_binary_classifier() -> None:
    logits, labels = torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 0])
    objective = Objective("classification", (Head("y", "z", "sigmoid"),), 1.0, 2.0)
    torch.testing.assert_close(
        objective.loss({"z": logits}, labels, None),
        F.binary_cross_entropy_with_logits(logits[:, 0], labels.float()),
    )
    assert float(objective.score({"z": logits}, labels, None)) == 1


def test_longer_target_is_cut_to_a_trimmed_batch() -> None:
    assert fitted(torch.zeros(2, 8, 4), torch.zeros(2, 5, 4)).shape == (2, 5, 4)


def test_teacher_of_another_width_is_refused() -> None:
    with pytest.raises(TechniqueNotApplicable, match="differ in shape"):
        fitted(torch.zeros(2, 4), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (np.array([0, 3]), "classification"),
        (np.array([0, -1]), "classification"),
        (np.array([0.5, 1.0]), "classification"),
        (np.zeros((2, 2)), "multilabel"),
        (np.full((2, 3), 2.0), "multilabel"),
        (np.zeros((2, 4)), "regression"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, task: str) -> None:
    with pytest.raises(DatasetMismatch):
        check_labels(labels, task, 3)  # type: ignore[arg-type] # drawn from a table
