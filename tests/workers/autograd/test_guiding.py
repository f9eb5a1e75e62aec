"""The loss of inner values: what it measures, what it leaves out, and what it refuses."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from app.errors import TechniqueNotApplicable
from tests.workers.graph import networks
from tests.workers.graph.networks import bert, dataset_for, rows_for
from workers.compute.autograd import training
from workers.compute.autograd.batching import Batch, batch_of, sequence_inputs
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.guiding import Guidance, Guide, divergence
from workers.compute.autograd.training import Fit
from workers.compute.graph.model import Model
from workers.compute.graph.pairing import Pairs, pairs_of
from workers.compute.graph.spans import remove, spans

HIDDEN, ATTENTION = "layer3.norm2.shift_out", "layer3.attention.softmax_out"


class Lesson:
    """A student and its guide, started on one batch of padded text."""

    def __init__(self, student: Model, teacher: Model, *, related: bool = True, **weights: float) -> None:
        self.samples = rows_for(teacher, 24, seed=3)
        self.guidance = Guidance(pairs_of(student, teacher, related=related), **weights)
        self.student, self.teacher = Executor(student), Executor(teacher, trainable=False).eval()
        self.guide = Guide(self.guidance, student, self.teacher, self.samples)
        self.batch: Batch = batch_of(self.samples, np.arange(12), sequence_inputs(student))
        self.values = self.student(self.batch.inputs, self.guide.capture)
        self.guide.start(self.values, self.batch)

    def loss(self, **changed: Tensor) -> float:
        return float(self.guide.loss({**self.values, **changed}, self.batch).detach())

    @property
    def padding(self) -> Tensor:
        return self.batch.inputs["attention_mask"] == 0


def halved(**weights: float) -> Lesson:
    teacher = bert(4)
    return Lesson(remove(teacher, spans(teacher)[1:3]), teacher, **weights)


def test_teacher_has_nothing_to_learn_from_itself() -> None:
    assert Lesson(bert(2), bert(2), hidden=1.0, attention=1.0).loss() == pytest.approx(0, abs=1e-6)


def test_hidden_loss_is_the_mean_squared_error_of_real_tokens_in_the_teachers_variance() -> None:
    lesson = halved(hidden=3.0)
    pairs, real = lesson.guidance.pairs.hidden, ~lesson.padding
    taught = lesson.teacher(lesson.batch.inputs, [pair.teacher for pair in pairs])

    errors = []
    for pair in pairs:
        student, teacher = lesson.values[pair.student].detach()[real], taught[pair.teacher][real]
        errors.append(float(F.mse_loss(student, teacher) / teacher.var(correction=0)))

    assert errors[:2] == pytest.approx([0, 0], abs=1e-9)
    assert lesson.loss() == pytest.approx(3 * sum(errors) / 3, rel=1e-5)


def test_attention_loss_is_the_divergence_from_the_teachers_over_heads_and_real_tokens() -> None:
    lesson = halved(attention=2.0)
    last, real = lesson.guidance.pairs.attention[-1], ~lesson.padding
    teacher = lesson.teacher(lesson.batch.inputs, [last.teacher])[last.teacher].movedim(1, 2)[real]
    student = lesson.values[last.student].detach().movedim(1, 2)[real]

    apart = F.kl_div(student.clamp_min(1e-12).log(), teacher, reduction="sum") / teacher[..., 0].numel()

    assert lesson.loss() == pytest.approx(2 * float(apart) / 2, rel=1e-4)
    assert lesson.loss() > 0


@pytest.mark.parametrize("kind", ["hidden", "attention"])
def test_padding_does_not_count(kind: str) -> None:
    lesson = halved(**{kind: 1.0})
    name = HIDDEN if kind == "hidden" else ATTENTION
    before, spoilt = lesson.loss(), lesson.values[name].detach().clone()
    view = spoilt if kind == "hidden" else spoilt.movedim(1, 2)  # rows and tokens come first

    view[lesson.padding] *= 0.1
    at_padding = lesson.loss(**{name: spoilt})
    view[~lesson.padding] *= 0.1

    assert lesson.padding.any()
    assert at_padding == pytest.approx(before, abs=1e-7)
    assert abs(lesson.loss(**{name: spoilt}) - before) > 0.1


def test_narrower_student_is_carried_to_the_teachers_width(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = bert(2)
    monkeypatch.setattr(networks, "WIDTH", 8)
    lesson = Lesson(bert(2), teacher, related=False, hidden=1.0)

    weights = dict(lesson.guide.named_parameters())
    loss = lesson.guide.loss(lesson.values, lesson.batch)
    torch.autograd.backward(loss)

    assert {tuple(weight.shape) for weight in weights.values()} == {(16, 8), (16,)}
    assert all(weight.grad is not None for weight in weights.values())
    assert float(loss.detach()) < 1  # an affine map does no worse than the mean alone


def test_projections_are_trained_and_not_a_part_of_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, rows = bert(2), dataset_for(bert(2))
    monkeypatch.setattr(networks, "WIDTH", 8)
    guidance = Guidance(pairs_of(bert(2), teacher, related=False), hidden=1.0)
    session = training._session(bert(2), rows, Fit(threads=1, guidance=guidance), teacher, lambda _share, _point: None)
    assert session.guide is not None
    before = [weight.detach().clone() for weight in session.guide.parameters()]

    session.step(session.new_optimizer(), batch_of(rows.train, np.arange(16), session.sequence))

    assert not any(torch.equal(old, new) for old, new in zip(before, session.guide.parameters(), strict=True))
    assert session.executor.state_dict().keys() == Executor(bert(2)).state_dict().keys()


def test_heads_are_averaged_when_their_numbers_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = bert(2)
    monkeypatch.setattr(networks, "HEADS", 4)
    lesson = Lesson(bert(2), teacher, related=False, attention=1.0)
    attention = torch.softmax(torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(0)), -1)

    doubled = divergence(attention.repeat(1, 2, 1, 1), attention, None)

    assert lesson.loss() > 0
    assert float(doubled) == pytest.approx(0, abs=1e-6)


def test_teacher_of_a_fixed_length_is_cut_to_the_trimmed_tokens() -> None:
    teacher, fixed = bert(4), bert(4)
    for value in fixed.graph.inputs:
        value.shape = ir.Shape(["batch", networks.TOKENS])
    losses = []
    for model in (teacher, fixed):
        lesson = Lesson(remove(teacher, spans(teacher)[1:3]), model, hidden=1.0, attention=1.0)
        shorter = batch_of(lesson.samples, lesson.batch.rows[_short(lesson)], sequence_inputs(lesson.student.model))
        assert shorter.inputs["input_ids"].shape[1] < networks.TOKENS
        losses.append(float(lesson.guide.loss(lesson.student(shorter.inputs, lesson.guide.capture), shorter).detach()))

    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def _short(lesson: Lesson) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.asarray(lesson.batch.inputs["attention_mask"].sum(1) < networks.TOKENS - 1)


@pytest.mark.parametrize("kind", ["hidden", "attention"])
def test_values_of_other_ranks_are_refused_by_name(kind: str) -> None:
    guidance = halved(**{kind: 1.0}).guidance
    wrong = [replace(pair, teacher="logits") for pair in getattr(guidance.pairs, kind)]
    lesson = halved(**{kind: 1.0})
    guide = Guide(Guidance(Pairs(**{kind: tuple(wrong)}), **{kind: 1.0}), bert(4), lesson.teacher, lesson.samples)

    with pytest.raises(TechniqueNotApplicable, match=f"{kind} cannot be matched.*set {kind} to 0"):
        guide.start(lesson.values, lesson.batch)
