"""Lets a student's inner values follow its teacher's, beside the answers. Knows no loop and no technique."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from app.errors import TechniqueNotApplicable
from workers.compute.autograd.batching import MASK, Batch, batch_of, sequence_inputs
from workers.compute.autograd.executor import Executor
from workers.compute.datasets.samples import Samples
from workers.compute.graph.model import Model
from workers.compute.graph.pairing import Pair, Pairs

# Share of the mean square that keeps the first projection solvable where positions are fewer than widths.
_RIDGE = 1e-3
_TINY = 1e-12
# Ranks: (rows, tokens), (rows, tokens, width) and (rows, heads, tokens, tokens).
_MATRIX, _SEQUENCE, _HEADS = 2, 3, 4

Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Guidance:
    """What is matched to what, and the weight of each kind of loss beside that of the answers."""

    pairs: Pairs
    hidden: float = 0.0
    attention: float = 0.0

    @property
    def matched(self) -> tuple[Pair, ...]:
        """The pairs whose weight is above 0."""
        return (*(self.pairs.hidden if self.hidden else ()), *(self.pairs.attention if self.attention else ()))


class Guide(nn.Module):
    """The loss of one student's inner values, with the projections that are trained beside it and thrown away.

    The teacher is asked for every batch: what it computes inside is too much to keep.
    """

    def __init__(self, guidance: Guidance, student: Model, teacher: Executor, samples: Samples) -> None:
        """Remember whom to ask about which rows; `start` must come before `loss`."""
        super().__init__()
        self.capture = tuple(dict.fromkeys(pair.student for pair in guidance.matched))
        self._guidance = guidance
        self._ask = teacher.forward
        self._asked = tuple(dict.fromkeys(pair.teacher for pair in guidance.matched))
        self._samples = samples
        self._device = teacher.device
        trims, follows = sequence_inputs(student), sequence_inputs(teacher.model)
        self._sequence = follows if trims else ()
        self._longer = bool(trims) and not follows
        self._streams = nn.ModuleList()

    def start(self, values: Values, batch: Batch) -> None:
        """Measure the teacher's variances and fit the projections to a first batch.

        Raises TechniqueNotApplicable for values that do not fit together.
        """
        taught, kept, guidance = self._taught(batch), self._kept(batch), self._guidance
        for pair in guidance.pairs.hidden if guidance.hidden else ():
            student, teacher = values[pair.student], self._cut(taught[pair.teacher], values[pair.student], (1,))
            self._streams.append(_Stream(student, teacher, _axis(pair, student, teacher), kept))
        for pair in guidance.pairs.attention if guidance.attention else ():
            _check_attention(pair, *self._attentions(pair, values, taught, len(batch.rows)))

    def loss(self, values: Values, batch: Batch) -> Tensor:
        """Return the weighted loss of a batch: each kind is the mean over its pairs."""
        taught, kept, guidance = self._taught(batch), self._kept(batch), self._guidance
        parts = []
        if guidance.hidden:
            errors = []
            for stream, pair in zip(self._streams, guidance.pairs.hidden, strict=True):
                student = values[pair.student]
                errors.append(stream(student, self._cut(taught[pair.teacher], student, (1,)), kept))
            parts.append(guidance.hidden * torch.stack(errors).mean())
        if guidance.attention:
            found = [self._attentions(pair, values, taught, len(batch.rows)) for pair in guidance.pairs.attention]
            parts.append(guidance.attention * torch.stack([divergence(*each, kept) for each in found]).mean())
        return torch.stack(parts).sum()

    def _taught(self, batch: Batch) -> Values:
        asked = batch if batch.blend is not None else batch_of(self._samples, batch.rows, self._sequence)
        with torch.no_grad():
            found: Values = self._ask(asked.inputs, self._asked)
        return found

    def _kept(self, batch: Batch) -> Tensor | None:
        """Return which tokens are no padding: (rows, tokens), if rows have them."""
        mask = batch.inputs.get(MASK)
        return None if mask is None or mask.dim() != _MATRIX else (mask != 0).to(self._device)

    def _cut(self, teacher: Tensor, student: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Cut the teacher's tokens to the student's, which was given trimmed text."""
        if self._longer and teacher.dim() == student.dim() >= _SEQUENCE:
            for axis in axes:
                teacher = teacher.narrow(axis, 0, min(student.shape[axis], teacher.shape[axis]))
        return teacher

    def _attentions(self, pair: Pair, values: Values, taught: Values, rows: int) -> tuple[Tensor, Tensor]:
        """Return the student's and the teacher's probabilities: (rows, heads, tokens, tokens) where that is clear."""
        student, teacher = (
            each.reshape(rows, -1, *each.shape[1:]) if each.dim() == _SEQUENCE and len(each) % rows == 0 else each
            for each in (values[pair.student].float(), taught[pair.teacher].float())
        )
        return student, self._cut(teacher, student, (-2, -1))


class _Stream(nn.Module):
    """The squared error of one hidden state, in the teacher's variance (Jiao et al., 2020).

    Where one axis differs in width, a learned projection carries the student's to the teacher's.
    """

    def __init__(self, student: Tensor, teacher: Tensor, axis: int | None, kept: Tensor | None) -> None:
        super().__init__()
        self._axis = axis
        self._variance = float(_inside(teacher, kept).double().var(correction=0)) or 1.0
        self._projection = None if axis is None else _projection(student, teacher, axis, kept)

    def forward(self, student: Tensor, teacher: Tensor, kept: Tensor | None) -> Tensor:
        student, teacher = student.float(), teacher.float()
        if self._projection is not None and self._axis is not None:
            student = self._projection(student.movedim(self._axis, -1)).movedim(-1, self._axis)
        return _inside((student - teacher) ** 2, kept).mean() / self._variance


def divergence(student: Tensor, teacher: Tensor, kept: Tensor | None) -> Tensor:
    """Return the mean KL divergence of attention probabilities from the teacher's, over heads and real tokens.

    Shapes (rows, heads, tokens, tokens); heads are averaged where their numbers differ (Wang et al., 2020).
    """
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    apart = torch.xlogy(teacher, teacher) - teacher * student.clamp_min(_TINY).log()
    return _inside(apart.sum(-1).movedim(1, -1), kept).mean()


def _inside(tensor: Tensor, kept: Tensor | None) -> Tensor:
    """Return the positions that are no padding; all where the first two axes are not rows and tokens."""
    if kept is None or tensor.dim() < _SEQUENCE or tensor.shape[:2] != kept.shape or not bool(kept.any()):
        return tensor
    return tensor[kept]


def _axis(pair: Pair, student: Tensor, teacher: Tensor) -> int | None:
    """Return the one axis in which two hidden states differ."""
    if student.dim() == teacher.dim():
        differing = [axis for axis in range(student.dim()) if student.shape[axis] != teacher.shape[axis]]
        if not differing:
            return None
        if len(differing) == 1 and differing[0] > 0:
            return differing[0]
    raise TechniqueNotApplicable(_unlike("hidden", pair, student, teacher))


def _check_attention(pair: Pair, student: Tensor, teacher: Tensor) -> None:
    if student.dim() != _HEADS or teacher.dim() != _HEADS or student[:, 0].shape != teacher[:, 0].shape:
        raise TechniqueNotApplicable(_unlike("attention", pair, student, teacher))


def _unlike(option: str, pair: Pair, student: Tensor, teacher: Tensor) -> str:
    shapes = f"{list(student.shape)} and {list(teacher.shape)}"
    return (
        f"{option} cannot be matched: {pair.student} of the student and {pair.teacher} of the teacher have shapes "
        f"{shapes}, which differ in more than width; set {option} to 0, or name another teacher"
    )


def _projection(student: Tensor, teacher: Tensor, axis: int, kept: Tensor | None) -> nn.Linear:
    """Return the affine map from the student's width to the teacher's that fits one batch best."""
    own, other = (_positions(tensor, axis, kept) for tensor in (student, teacher))
    centre, target = own.mean(0), other.mean(0)
    gram = (own - centre).T @ (own - centre)
    gram += (_RIDGE * gram.diagonal().mean() + _TINY) * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram, (own - centre).T @ (other - target)).T
    found = nn.Linear(own.shape[1], other.shape[1], device=student.device)
    with torch.no_grad():
        found.weight.copy_(weight)
        found.bias.copy_(target - weight @ centre)
    return found


def _positions(tensor: Tensor, axis: int, kept: Tensor | None) -> Tensor:
    """Return (positions, width)."""
    moved = _inside(tensor.detach().double().movedim(axis, -1), kept)
    return moved.reshape(-1, moved.shape[-1])
