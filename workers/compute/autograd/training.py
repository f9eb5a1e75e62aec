"""The training loop: a model's own graph, in place, under its constraints. Knows no technique."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from app.contracts.report import CurvePoint
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.batching import Batch, batch_of, epoch_rows, in_order, sequence_inputs
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.guiding import Guide
from workers.compute.autograd.keeping import (
    Kept,
    Standing,
    draws_by_seed,
    gather,
    go_on,
    middle,
    result,
    take_over,
)
from workers.compute.autograd.logits import Logits
from workers.compute.autograd.losses import Objective, check_labels, heads_for
from workers.compute.autograd.mixing import check_mixable, mixed
from workers.compute.autograd.normalization import choose_statistics
from workers.compute.autograd.optimization import optimizer_of, rate_at
from workers.compute.autograd.prediction import predict, resolve_device
from workers.compute.autograd.rate_finding import find_rate, undisturbed
from workers.compute.autograd.repeatability import repeatable
from workers.compute.autograd.selecting import Selection
from workers.compute.autograd.settings import Finding, Fit, OnStep, Progress
from workers.compute.autograd.teaching import Targets, teacher_of
from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.graph.model import Model

__all__ = ["Finding", "Fit", "OnStep", "Progress", "fit", "predict"]

# Share of the progress given to asking the teacher, before the first step.
_TEACHING = 0.1
# Batches that tell which statistics batch normalization goes by.
_TRIALS = 8
# Batches of held-out rows that tell learning rates apart.
_HELD_OUT = 16
# Steps between validations, at least, unless the whole training is short.
_APART, _VALIDATIONS = 20, 20
# Points of the curve between validations, over the whole training.
_POINTS = 50


def fit(
    model: Model,
    dataset: Dataset,
    settings: Fit,
    *,
    teacher: Model | None = None,
    progress: Progress = lambda _share, _point: None,
    on_step: OnStep | None = None,
) -> tuple[CurvePoint, ...]:
    """Train `model` in place and keep the best validated state, the start included; return the curve.

    `on_step` may change constraints before a step.
    Same arguments, same bits on the CPU. The teacher's logits are computed once, in the first tenth of the progress,
    when they fit into memory. Raises TechniqueNotApplicable when there is nothing to learn from or training diverges,
    DatasetMismatch when rows or labels do not fit the model.
    """
    if settings.epochs <= 0 or not len(dataset.train):
        return ()
    settings = replace(settings, device=resolve_device(settings.device))
    with repeatable(settings.device, settings.threads, settings.seed):
        kept = settings.keeper.begin()
        if kept is not None and kept.facts["finished"]:
            curve, note = take_over(kept, model, on_step), kept.facts["note"]
        else:
            curve, note = _trained(_session(model, dataset, settings, teacher, progress), kept, progress, on_step)
    if note is not None:
        settings.finding(note)
    progress(1.0, None)
    return tuple(curve)


def _trained(
    session: "_Session", kept: Kept | None, progress: Progress, on_step: OnStep | None
) -> tuple[list[CurvePoint], str | None]:
    """Train from the start, or from where an earlier process was; return the curve, and how the rate was found."""
    if kept is None:
        choose_statistics(
            session.executor, lambda: session.mean_loss(session.dataset.train, session.targets, slice(_TRIALS))
        )
        if session.settings.learning_rate is None:
            found = find_rate(session.total, lambda rate, steps: session.trial(rate, steps, on_step))
            session.standing = Standing(found.rate, found.note)
    else:
        session.standing, session.kept = go_on(kept, session.executor, session.guide, on_step), kept
    session.train(progress, on_step)
    session.executor.write_back()
    session.settings.keeper.end(result(session.standing, session.executor, on_step))
    return session.standing.curve, session.standing.note


def _session(model: Model, dataset: Dataset, settings: Fit, teacher: Model | None, progress: Progress) -> "_Session":
    executor = Executor(model, device=settings.device)
    objective = _objective(model, dataset, settings, teacher)
    targets, validation_targets, guide = None, None, None
    answers = objective.alpha < 1 or not dataset.labelled
    tutor = None
    if teacher is not None and (answers or settings.guidance is not None):
        tutor = teacher_of(teacher, heads_for(teacher, dataset.task), settings.device)
    if tutor is not None and settings.guidance is not None:
        guide = Guide(settings.guidance, model, tutor.executor, dataset.train)
    if teacher is not None and tutor is not None and answers:
        if len(tutor.heads) != len(objective.heads):
            msg = f"the teacher has {len(tutor.heads)} floating-point outputs, the student {len(objective.heads)}"
            raise TechniqueNotApplicable(msg)
        known = settings.logits if settings.logits and settings.logits.model is teacher else Logits(teacher)
        size = settings.batch_size
        targets = known.targets(tutor, "train", dataset, size, lambda share: progress(_TEACHING * share, None))
        validation_targets = known.targets(tutor, "validation", dataset, size, lambda _: None)
        objective = replace(objective, spreads=targets.spreads(size))
    if dataset.task == "regression" and dataset.train.labels is not None:
        spread = float(np.var(dataset.train.labels.astype(np.float64))) or 1.0
        objective = replace(objective, spreads=(spread,))
    standing = Standing(settings.learning_rate or 0.0)  # it is found later
    found = _Session(executor, dataset, settings, objective, standing, targets, validation_targets, guide)
    found.check()
    return found


def _objective(model: Model, dataset: Dataset, settings: Fit, teacher: Model | None) -> Objective:
    """Return the loss that labels and teacher allow: no labels means teacher alone, and the other way round."""
    alpha = settings.alpha if teacher is not None else 1.0
    if dataset.task == "match" or not dataset.labelled:
        alpha = 0.0
    if alpha == 0 and teacher is None:
        msg = "training needs labels or a teacher, and there is neither; give labels, or use distill"
        raise TechniqueNotApplicable(msg)
    return Objective(dataset.task, heads_for(model, dataset.task), alpha, settings.temperature)


@dataclass
class _Session:
    """One training under way."""

    executor: Executor
    dataset: Dataset
    settings: Fit
    objective: Objective
    standing: Standing
    targets: Targets | None
    validation_targets: Targets | None
    guide: Guide | None = None
    kept: Kept | None = None
    diverged: bool = False
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Find the axis that text batches are trimmed along, count the steps, say which state will be kept."""
        self.sequence = sequence_inputs(self.executor.model)
        self.per_epoch = len(epoch_rows(len(self.dataset.train), self.settings.batch_size, self.settings.seed, 0))
        self.total = max(1, round(self.settings.epochs * self.per_epoch))
        self.optimizer: torch.optim.Optimizer | None = None
        # Without the labels in the loss, the aim is the teacher's answers, and the loss tells them finer than a count.
        counts = self.dataset.task == "classification" and self.dataset.labelled and self.objective.alpha > 0
        self.selection = Selection(len(self.dataset.validation), counts, self.settings.floor)

    def check(self) -> None:
        """Refuse rows and labels that do not fit, before any time is spent."""
        if self.settings.mixup > 0:
            check_mixable(self.executor.model)
        if not self.executor.trained:
            msg = "the model has no weights that could be trained"
            raise TechniqueNotApplicable(msg)
        batch = next(in_order(self.dataset.train, self.settings.batch_size, self.sequence))
        self.executor.eval()
        with torch.no_grad():
            values = self.executor(batch.inputs, (*self.objective.capture, *self.guided))
            logits = values[self.objective.heads[0].logits]
            if self.guide is not None:
                self.guide.start(values, batch)
        if self.dataset.task == "match":
            return
        width = int(np.prod(logits.shape[1:])) if logits.dim() > 1 else 1
        for split in (self.dataset.train, self.dataset.validation):
            if split.labels is not None:
                check_labels(split.labels, self.dataset.task, width)

    def train(self, progress: Progress, on_step: OnStep | None) -> None:
        """Run all steps, then go back to the best state."""
        settings, per_epoch, total, standing = self.settings, self.per_epoch, self.total, self.standing
        every = max(1, per_epoch // max(1, settings.validations_per_epoch), min(_APART, total // _VALIDATIONS))
        base = _TEACHING if self.targets is not None else 0.0
        allowed_s = math.inf if settings.max_minutes is None else settings.max_minutes * 60
        self.began -= standing.spent_s
        if not standing.done:
            self.validate(0, 0.0, None)
        for loss, changing in self.steps(total, on_step):
            standing.losses.append(loss)
            standing.done += 1
            done, last = standing.done, standing.done == total or time.monotonic() - self.began > allowed_s
            share = base + (1 - base) * done / total
            if self.diverged:
                break
            if last or done % every == 0:
                progress(share, self.validate(done, done / per_epoch, float(np.mean(standing.losses))))
                standing.losses = []
            elif done % max(1, total // _POINTS) == 0:
                point = CurvePoint(step=done, epoch=done / per_epoch, loss=float(np.mean(standing.losses)))
                progress(share, self.record(point))
            standing.stale = 0 if changing else standing.stale
            if last or (settings.patience is not None and standing.stale >= settings.patience):
                break
            self.keep(on_step)
        self.restore()

    def keep(self, on_step: OnStep | None) -> None:
        """Keep what was reached, when it is time to."""
        keeper = self.settings.keeper
        if self.optimizer is None or not keeper.due() or draws_by_seed(self.executor.model):
            return
        self.standing.spent_s = time.monotonic() - self.began
        reached = middle(self.standing, self.executor, self.optimizer, self.guide, on_step)
        place = {"epoch": self.standing.done / self.per_epoch, "epochs": self.total / self.per_epoch}
        keeper.keep(replace(reached, facts={**reached.facts, **place}))

    def steps(self, total: int, on_step: OnStep | None) -> Iterator[tuple[float, bool]]:
        """Take the steps up to `total`, on the rate's whole way; yield loss and whether constraints will change."""
        first, optimizer = self.standing.done, self.new_optimizer()
        if self.kept is not None:
            gather(optimizer, self.kept, self.executor.device)
            self.kept = None
        for step, chosen in enumerate(islice(self.batches(total), first, None), first):
            before = list(self.executor.parameters())
            changing = on_step is not None and on_step(step, total, self.executor)
            if not _same(before, list(self.executor.parameters())):
                optimizer = self.new_optimizer()
            for group in optimizer.param_groups:
                group["lr"] = self.standing.rate * rate_at(step, total, self.settings.warmup)
            self.optimizer = optimizer
            yield self.step(optimizer, self.batch(step, chosen)), changing

    def trial(self, rate: float, steps: int, on_step: OnStep | None) -> float:
        """Return the loss on held-out rows of a copy that trained for some steps, infinite if it diverged.

        What is to be trained stays as it is, random numbers and a guide's projections included.
        """
        copied = replace(self, executor=self.executor.anew(), standing=Standing(rate))
        with undisturbed(self.settings.device, self.guide):
            for _ in copied.steps(steps, on_step):
                if copied.diverged:
                    return math.inf
            return copied.held_out_loss()

    def held_out_loss(self) -> float:
        """Return the mean loss on validation rows, or on the last training rows of an epoch if there are none.

        Batch normalization goes by what training goes by: after a few steps its running statistics lag behind.
        """
        samples, targets = self.dataset.validation, self.validation_targets
        if not len(samples):
            samples, targets = self.dataset.train, self.targets
        self.executor.train()
        with torch.no_grad():
            return self.mean_loss(samples, targets, slice(-_HELD_OUT, None))

    @property
    def guided(self) -> tuple[str, ...]:
        """The inner values that follow the teacher's."""
        return () if self.guide is None else self.guide.capture

    def new_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer of the weights, and of the projections that are trained beside them."""
        found = optimizer_of(self.executor, self.standing.rate, self.settings.weight_decay)
        projections = [] if self.guide is None else list(self.guide.parameters())
        if projections:
            found.add_param_group({"params": projections, "weight_decay": 0.0})
        return found

    def mean_loss(self, samples: Samples, targets: Targets | None, which: slice) -> float:
        """Return the mean loss over some batches of an epoch, unmixed."""
        chosen = epoch_rows(len(samples), self.settings.batch_size, self.settings.seed, 0)[which]
        batches = (batch_of(samples, rows, self.sequence) for rows in chosen)
        return float(np.mean([float(self.loss(batch, targets)) for batch in batches]))

    def batches(self, total: int) -> Iterator[np.ndarray]:
        """Yield the row numbers of each step."""
        for epoch in range(-(-total // self.per_epoch)):
            rows = epoch_rows(len(self.dataset.train), self.settings.batch_size, self.settings.seed, epoch)
            yield from rows[: total - epoch * self.per_epoch]

    def batch(self, step: int, rows: np.ndarray) -> Batch:
        """Return the rows of a step, mixed if they are to be."""
        settings, found = self.settings, batch_of(self.dataset.train, rows, self.sequence)
        return mixed(found, settings.mixup, (settings.seed, step)) if settings.mixup > 0 else found

    def step(self, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
        """Take one step; a loss or gradient that is not finite ends the training before it reaches the weights."""
        self.executor.train()
        optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch, self.targets, self.guide)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.executor.parameters(), self.settings.clip)
        value = float(loss.detach())
        if not math.isfinite(value) or not math.isfinite(float(norm)):
            self.diverged = True
            return value
        optimizer.step()
        return value

    def loss(self, batch: Batch, targets: Targets | None, guide: Guide | None = None) -> Tensor:
        """Return the loss of a batch: of its answers, and of what a guide looks at inside."""
        values = self.forward(batch, () if guide is None else guide.capture)
        taught = None if targets is None else targets.at(batch)
        answered = self.answered(values, batch.labels, taught)
        if batch.blend is not None:
            partners = self.answered(values, batch.blend.labels, taught)
            answered = torch.lerp(partners, answered, batch.blend.share)
        return answered if guide is None else answered + guide.loss(values, batch)

    def answered(self, values: Mapping[str, Tensor], labels: Tensor | None, taught: Sequence[Tensor] | None) -> Tensor:
        """Return the loss of a batch's answers."""
        labels = None if labels is None else labels.to(self.settings.device)
        return self.objective.loss(values, labels, taught)

    def forward(self, batch: Batch, inner: Sequence[str] = ()) -> dict[str, Tensor]:
        """Run the graph, in bfloat16 where an accelerator has it."""
        on_cuda = self.settings.device.startswith("cuda")
        with torch.autocast("cuda", torch.bfloat16) if on_cuda else nullcontext():
            values: dict[str, Tensor] = self.executor(batch.inputs, (*self.objective.capture, *inner))
        return values

    def validate(self, step: int, epoch: float, loss: float | None) -> CurvePoint:
        """Measure loss and score on the validation rows; remember the state if it is the best one yet."""
        rows: Samples = self.dataset.validation
        if not len(rows):
            return self.record(CurvePoint(step=step, epoch=epoch, loss=loss))
        self.executor.eval()
        total_loss, total_score = 0.0, 0.0
        with torch.no_grad():
            for batch in in_order(rows, max(self.settings.batch_size, 64), self.sequence):
                values = self.forward(batch)
                labels = None if batch.labels is None else batch.labels.to(self.settings.device)
                targets = None if self.validation_targets is None else self.validation_targets.at(batch)
                total_loss += float(self.objective.loss(values, labels, targets)) * len(batch.rows)
                total_score += float(self.objective.score(values, labels, targets)) * len(batch.rows)
        found = CurvePoint(
            step=step,
            epoch=epoch,
            loss=loss,
            validation_loss=_finite(total_loss / len(rows)),
            validation_score=_finite(total_score / len(rows)),
        )
        self.selection.judge(found, self.standing, self.executor)
        return self.record(found)

    def restore(self) -> None:
        """Go back to the best state; without validation rows the last state stays.

        Raises TechniqueNotApplicable when training diverged and no state is left to go back to.
        """
        if self.standing.best and self.standing.best_revision == self.executor.revision:
            self.executor.load_state_dict(self.standing.best)
        elif self.diverged:
            msg = f"training diverged at learning rate {self.standing.rate:g}; use a smaller one"
            raise TechniqueNotApplicable(msg)

    def record(self, point: CurvePoint) -> CurvePoint:
        """Add a point to the curve."""
        self.standing.curve.append(point)
        return point


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _same(before: list[torch.nn.Parameter], after: list[torch.nn.Parameter]) -> bool:
    return len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True))
