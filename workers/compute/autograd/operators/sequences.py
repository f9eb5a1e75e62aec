"""Sequences of tensors, which exporters write for lists and chunks. A sequence is a list; it is never changed."""

import torch
from torch import Tensor

from workers.compute.autograd.operators.base import Kernel, Node, Rule, plain, scalar


def _place(position: Tensor | None, default: int) -> int:
    return default if position is None else int(scalar(position))


def _at(sequence: list[Tensor], position: Tensor) -> Tensor:
    return sequence[_place(position, 0)]


def _erase(sequence: list[Tensor], position: Tensor | None = None) -> list[Tensor]:
    place = _place(position, -1) % len(sequence)
    return sequence[:place] + sequence[place + 1 :]


def _insert(sequence: list[Tensor], x: Tensor, position: Tensor | None = None) -> list[Tensor]:
    place = _place(position, len(sequence))
    place = place + len(sequence) if place < 0 else place
    return [*sequence[:place], x, *sequence[place:]]


def _concat(node: Node) -> Kernel:
    axis, join = node.integer("axis"), torch.stack if node.integer("new_axis") else torch.cat
    return lambda sequence: join(sequence, axis)


def _split(node: Node) -> Kernel:
    axis, keep = node.integer("axis"), bool(node.integer("keepdims", 1))

    def run(x: Tensor, given: Tensor | None = None) -> list[Tensor]:
        if given is None:
            return list(torch.split(x, 1, axis)) if keep else list(x.unbind(axis))
        sizes = int(scalar(given)) if given.dim() == 0 else [int(size) for size in given.tolist()]
        return list(torch.split(x, sizes, axis))

    return run


RULES: dict[str, Rule] = {
    "ConcatFromSequence": _concat,
    "SequenceAt": plain(_at),
    "SequenceConstruct": plain(lambda *parts: list(parts)),
    "SequenceEmpty": plain(list),
    "SequenceErase": plain(_erase),
    "SequenceInsert": plain(_insert),
    "SequenceLength": plain(lambda sequence: torch.tensor(len(sequence), dtype=torch.int64)),
    "SplitToSequence": _split,
}
