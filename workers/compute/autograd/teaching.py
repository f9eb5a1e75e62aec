"""A teacher's logits: computed once and kept when they fit, else computed for every batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.compute.autograd.batching import Batch, batch_of, in_order, sequence_inputs
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.losses import Head
from workers.compute.datasets.samples import Samples
from workers.compute.graph.model import Model

# Targets of one split are kept up to this many bytes; more would compete with the training itself for memory.
CACHE_BYTES = 1 << 30
_MATRIX = 2


@dataclass
class Teacher:
    """A frozen model that answers with its logits, one tensor for each head."""

    executor: Executor
    heads: tuple[Head, ...]
    sequence: tuple[str, ...]

    def answers(self, batch: Batch) -> list[Tensor]:
        """Return the logits for a batch."""
        values = self.executor(batch.inputs, tuple(head.logits for head in self.heads))
        return [values[head.logits] for head in self.heads]


def teacher_of(model: Model, heads: tuple[Head, ...], device: str) -> Teacher:
    """Return the frozen teacher; text is trimmed where its outputs have no sequence axis."""
    per_row = all(head.rank is not None and head.rank <= _MATRIX for head in heads)
    return Teacher(
        Executor(model, device=device, trainable=False).eval(), heads, sequence_inputs(model) if per_row else ()
    )


@dataclass(frozen=True)
class Targets:
    """The teacher's logits for the rows of one split."""

    teacher: Teacher
    samples: Samples
    kept: Sequence[Tensor] | None

    def at(self, batch: Batch) -> list[Tensor]:
        """Return the logits for the rows of a batch, or for what they were mixed to."""
        if batch.blend is not None:
            with torch.no_grad():
                return self.teacher.answers(batch)
        if self.kept is not None:
            rows = torch.from_numpy(batch.rows).to(self.kept[0].device)
            return [part.index_select(0, rows) for part in self.kept]
        with torch.no_grad():
            return self.teacher.answers(batch_of(self.samples, batch.rows, self.teacher.sequence))

    def spreads(self, size: int) -> tuple[float, ...]:
        """Return the variance of each head's logits (1 where they do not vary), over the first rows if not kept."""
        kept = self.kept
        if kept is None:
            kept = self.at(next(in_order(self.samples, size)))
        variances = [float(part.double().var(correction=0)) for part in kept]
        return tuple(variance if variance > 0 else 1.0 for variance in variances)


def targets_of(teacher: Teacher, samples: Samples, size: int, tell: Callable[[float], None]) -> Targets:
    """Ask the teacher once for all rows; `tell` hears the share that is done. Too large answers are not kept."""
    parts: list[list[Tensor]] = [[] for _ in teacher.heads]
    done = 0
    with torch.no_grad():
        for batch in in_order(samples, size, teacher.sequence):
            answers = teacher.answers(batch)
            if not done and _bytes_for(answers, len(samples)) > CACHE_BYTES:
                return Targets(teacher, samples, None)
            for part, answer in zip(parts, answers, strict=True):
                part.append(answer)
            done += len(batch.rows)
            tell(done / len(samples))
    return Targets(teacher, samples, [torch.cat(part) for part in parts])


def _bytes_for(answers: Sequence[Tensor], rows: int) -> int:
    return sum(answer[0].numel() * answer.element_size() * rows for answer in answers)
