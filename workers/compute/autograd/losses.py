"""What training minimises, by task: labels, a teacher's soft targets, or both. Knows no loop and no executor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from app.errors import DatasetMismatch, TechniqueNotApplicable
from workers.compute.datasets.samples import Task
from workers.compute.graph.model import FLOATS, Model
from workers.compute.graph.softmaxes import written_out

Link = Literal["softmax", "sigmoid", "identity"]
_LINKS: dict[str, Link] = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
_PASS_THROUGH = frozenset({"Identity", "Cast"})
_MATRIX = 2


@dataclass(frozen=True)
class Head:
    """A floating-point output: its name, the inner value that holds its logits, and what turns those into scores."""

    output: str
    logits: str
    link: Link = "identity"
    axis: int = -1
    rank: int | None = None


def heads_of(model: Model) -> tuple[Head, ...]:
    """Return every floating-point output, in the graph's order."""
    return tuple(_head(model, value) for value in model.graph.outputs if value.dtype in FLOATS or value.dtype is None)


def _head(model: Model, output: ir.Value) -> Head:
    rank = None if output.shape is None else len(output.shape)
    producer = output.producer()
    while producer is not None and producer.op_type in _PASS_THROUGH and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    name = output.name or ""
    if (softmax := written_out(model, producer)) is not None:
        exponents, along = softmax
        return Head(name, exponents.name or "", "softmax", along, rank)
    if producer is None or producer.op_type not in _LINKS or producer.inputs[0] is None:
        return Head(name, name, rank=rank)
    axis = producer.attributes.get("axis")
    link = _LINKS[producer.op_type]
    return Head(name, producer.inputs[0].name or "", link, -1 if axis is None else axis.as_int(), rank)


def heads_for(model: Model, task: Task) -> tuple[Head, ...]:
    """Return the outputs that a task trains: all for `match`, else the first floating one (of rank 2 for classes).

    Raises TechniqueNotApplicable when there is none.
    """
    heads = heads_of(model)
    if task in {"classification", "multilabel"}:
        heads = tuple(head for head in heads if head.rank is None or head.rank >= _MATRIX)
    if not heads:
        msg = f"the model has no floating-point output of scores, which the task {task} trains"
        raise TechniqueNotApplicable(msg)
    return heads if task == "match" else heads[:1]


@dataclass(frozen=True)
class Objective:
    """The loss of one task: alpha · labels + (1 − alpha) · teacher (Hinton et al., 2015).

    `spreads` are the variances of the targets, one for each head, that squared errors are measured in.
    """

    task: Task
    heads: tuple[Head, ...]
    alpha: float
    temperature: float
    spreads: tuple[float, ...] = ()

    @property
    def capture(self) -> tuple[str, ...]:
        """The values that `loss` and `score` read."""
        return tuple(dict.fromkeys(head.logits for head in self.heads))

    def loss(self, values: Mapping[str, Tensor], labels: Tensor | None, targets: Sequence[Tensor] | None) -> Tensor:
        """Return the mean loss of a batch. `labels` (rows, ...); `targets`: the teacher's logits, one for each head."""
        total = None
        if self.alpha > 0 and labels is not None:
            total = self.alpha * self._hard(_logits(values, self.heads[0]), labels)
        if self.alpha < 1 and targets is not None:
            parts = [self._soft(at, _logits(values, head), targets[at]) for at, head in enumerate(self.heads)]
            soft = torch.stack(parts).sum()
            total = (1 - self.alpha) * soft if total is None else total + (1 - self.alpha) * soft
        if total is None:
            msg = "training needs labels or a teacher"
            raise TechniqueNotApplicable(msg)
        return total

    def _hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.task == "classification" and logits.shape[-1] > 1:
            return F.cross_entropy(logits, labels)
        labels = labels.reshape(logits.shape).to(logits.dtype)
        if self.task == "regression":
            return F.mse_loss(logits, labels)
        return F.binary_cross_entropy_with_logits(logits, labels)

    def _soft(self, at: int, logits: Tensor, target: Tensor) -> Tensor:
        target, head = fitted(target, logits), self.heads[at]
        softened = self.temperature
        if _is_distribution(self.task, head, logits):
            student = torch.log_softmax(logits / softened, head.axis)
            teacher = torch.log_softmax(target / softened, head.axis)
            rows = logits.numel() / logits.shape[head.axis]
            return F.kl_div(student, teacher, reduction="sum", log_target=True) * softened**2 / rows
        if head.link == "sigmoid" or self.task in {"classification", "multilabel"}:
            soft = F.binary_cross_entropy_with_logits(logits / softened, torch.sigmoid(target / softened))
            return soft * softened**2
        return F.mse_loss(logits, target) / (self.spreads[at] if self.spreads else 1.0)

    def score(self, values: Mapping[str, Tensor], labels: Tensor | None, targets: Sequence[Tensor] | None) -> Tensor:
        """Return the batch's mean score, higher is better: accuracy, agreement, or 1 − error / variance."""
        logits = _logits(values, self.heads[0])
        if labels is None and targets is not None:
            parts = [self._agreement(at, _logits(values, head), targets[at]) for at, head in enumerate(self.heads)]
            return torch.stack(parts).mean()
        if labels is None:
            msg = "scoring needs labels or a teacher"
            raise TechniqueNotApplicable(msg)
        if self.task == "classification" and logits.shape[-1] > 1:
            return (logits.argmax(-1) == labels).float().mean()
        labels = labels.reshape(logits.shape)
        if self.task == "regression":
            return 1 - F.mse_loss(logits, labels.to(logits.dtype)) / (self.spreads[0] if self.spreads else 1.0)
        return ((logits > 0) == (labels > 0.5)).float().mean()  # noqa: PLR2004 - a label is 0 or 1

    def _agreement(self, at: int, logits: Tensor, target: Tensor) -> Tensor:
        target, head = fitted(target, logits), self.heads[at]
        if _is_distribution(self.task, head, logits):
            return (logits.argmax(head.axis) == target.argmax(head.axis)).float().mean()
        if head.link == "sigmoid" or self.task in {"classification", "multilabel"}:
            return ((logits > 0) == (target > 0)).float().mean()
        return 1 - F.mse_loss(logits, target) / (self.spreads[at] if self.spreads else 1.0)


def _is_distribution(task: Task, head: Head, logits: Tensor) -> bool:
    return logits.shape[head.axis] > 1 and (head.link == "softmax" or task == "classification")


def _logits(values: Mapping[str, Tensor], head: Head) -> Tensor:
    found = values[head.logits]
    return found if found.dtype == torch.float64 else found.float()


def fitted(target: Tensor, logits: Tensor) -> Tensor:
    """Return the teacher's target cut to the student's shape: batches of text are trimmed to their longest row.

    Raises TechniqueNotApplicable when the two models' outputs differ in more than length.
    """
    if target.shape == logits.shape:
        return target.to(logits.dtype)
    longer = target.dim() == logits.dim() and all(t >= s for t, s in zip(target.shape, logits.shape, strict=True))
    if not longer or target.dim() <= _MATRIX:
        msg = f"teacher and student outputs differ in shape: {list(target.shape)} and {list(logits.shape)}"
        raise TechniqueNotApplicable(msg)
    return target[tuple(slice(size) for size in logits.shape)].to(logits.dtype)


def check_labels(labels: NDArray[np.generic], task: Task, width: int) -> None:
    """Check the labels of a split against the number of scores.

    Raises DatasetMismatch naming the first label that does not fit.
    """
    if task == "classification":
        _check_classes(labels, max(width, 2))
        return
    columns = 1 if labels.ndim == 1 else int(np.prod(labels.shape[1:]))
    if task in {"multilabel", "regression"} and columns != width:
        msg = f"the labels have {columns} columns, the model has {width} outputs"
        raise DatasetMismatch(msg)
    if task == "multilabel" and np.any((labels.astype(np.float64) < 0) | (labels.astype(np.float64) > 1)):
        msg = "multilabel labels must be 0 or 1"
        raise DatasetMismatch(msg)


def _check_classes(labels: NDArray[np.generic], classes: int) -> None:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        given = f"{labels.dtype} of shape {labels.shape}"
        raise DatasetMismatch(f"classification needs one whole-number class id for each row, not {given}")
    ids = labels.astype(np.int64)
    if wrong := np.flatnonzero((ids < 0) | (ids >= classes)).tolist():
        msg = f"label {int(ids[wrong[0]])} in row {wrong[0]} is out of range: the model has {classes} classes"
        raise DatasetMismatch(msg)
