"""Reading and writing by index: Gather, Slice, Scatter and their kin."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule, axes_of, plain, scalar

# The standard's reductions by PyTorch's names.
_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
_MATRIX = 2


def from_front(indices: Tensor, size: int) -> Tensor:
    """Return indices counted from the front: negative ones count from the end."""
    indices = indices if indices.dtype == torch.int64 else indices.long()
    return torch.where(indices < 0, indices + size, indices)


def _gather(node: Node) -> Kernel:
    axis = node.integer("axis")
    constant = node.constants[1] if len(node.constants) > 1 else None
    positive = constant is not None and constant.numel() > 0 and int(constant.min()) >= 0

    def run(x: Tensor, indices: Tensor) -> Tensor:
        if indices.dim() == 0 and indices.device.type == "cpu":
            return x.select(axis, int(indices))
        indices = indices.long() if positive else from_front(indices, x.shape[axis])
        if axis == 0 and x.dim() == _MATRIX and x.is_floating_point():
            return F.embedding(indices, x)  # its gradient is far faster than index_select's
        picked = x.index_select(axis, indices.reshape(-1))
        first = axis % x.dim()
        return picked.reshape(x.shape[:first] + indices.shape + x.shape[first + 1 :])

    return run


def _gather_elements(node: Node) -> Kernel:
    axis = node.integer("axis")
    return lambda x, indices: torch.gather(x, axis, from_front(indices, x.shape[axis]))


def _gather_nd(node: Node) -> Kernel:
    batch = node.integer("batch_dims")

    def run(x: Tensor, indices: Tensor) -> Tensor:
        depth = indices.shape[-1]
        lead = [
            torch.arange(x.shape[axis], device=x.device).reshape(
                [-1 if at == axis else 1 for at in range(indices.dim() - 1)]
            )
            for axis in range(batch)
        ]
        picks = [from_front(indices[..., at], x.shape[batch + at]) for at in range(depth)]
        return x[tuple(lead + picks)]

    return run


def _slice(node: Node) -> Kernel:
    fixed = [node.integers(name) for name in ("starts", "ends", "axes", "steps")]

    def run(x: Tensor, *given: Tensor | None) -> Tensor:
        inputs = [*given, *([None] * (4 - len(given)))]
        starts, ends, axes, steps = (axes_of(one, default) for one, default in zip(inputs, fixed, strict=True))
        starts, ends = starts or [], ends or []
        axes = axes if axes is not None else list(range(len(starts)))
        steps = steps if steps is not None else [1] * len(starts)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            x = _slice_axis(x, axis, chosen_range(start, end, step, x.shape[axis]))
        return x

    return run


def chosen_range(start: int, end: int, step: int, size: int) -> range:
    """Return the positions of a slice; unlike Python, a start before the front going backwards is the first element."""
    start, end = (bound + size if bound < 0 else bound for bound in (start, end))
    if step > 0:
        return range(min(max(start, 0), size), min(max(end, 0), size), step)
    return range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), step)


def _slice_axis(x: Tensor, axis: int, chosen: range) -> Tensor:
    if chosen.step == 1:
        return x.narrow(axis, chosen.start if len(chosen) else 0, len(chosen))
    index = torch.arange(chosen.start, chosen.start + len(chosen) * chosen.step, chosen.step, device=x.device)
    return x.index_select(axis, index)


def _scatter_elements(node: Node) -> Kernel:
    axis, reduction = node.integer("axis"), node.text("reduction", "none")

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        index = from_front(indices, x.shape[axis])
        if reduction == "none":
            return x.scatter(axis, index, updates)
        return x.scatter_reduce(axis, index, updates, _REDUCTIONS[reduction], include_self=True)

    return run


def _scatter_nd(node: Node) -> Kernel:
    reduction = node.text("reduction", "none")

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=indices.device)
        for at in range(depth):
            flat = flat * x.shape[at] + from_front(indices[..., at], x.shape[at])
        tail = x.shape[depth:].numel()
        rows = x.reshape(-1, tail)
        index = flat.reshape(-1, 1).expand(-1, tail)
        updates = updates.reshape(-1, tail)
        if reduction == "none":
            return rows.scatter(0, index, updates).reshape(x.shape)
        return rows.scatter_reduce(0, index, updates, _REDUCTIONS[reduction], include_self=True).reshape(x.shape)

    return run


def _one_hot(node: Node) -> Kernel:
    axis = node.integer("axis", -1)

    def run(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = int(scalar(depth))
        positions = from_front(indices.long(), count).unsqueeze(axis)
        shape = [1] * positions.dim()
        shape[axis] = count
        hot = positions == torch.arange(count, device=positions.device).reshape(shape)
        return torch.where(hot, values[1], values[0])

    return run


def _compress(node: Node) -> Kernel:
    axis = node.attributes.get("axis")

    def run(x: Tensor, condition: Tensor) -> Tensor:
        x, at = (x.reshape(-1), 0) if axis is None else (x, int(axis))
        # As ONNX Runtime does, pass over conditions for which there is no element.
        return x.index_select(at, condition[: x.shape[at]].nonzero().reshape(-1))

    return run


def _reverse_sequence(node: Node) -> Kernel:
    batch_axis, time_axis = node.integer("batch_axis", 1), node.integer("time_axis", 0)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(x.shape[time_axis], device=x.device).reshape(-1, 1)
        limits = lengths.long().reshape(1, -1)
        order = torch.where(steps < limits, limits - 1 - steps, steps)  # (time, batch)
        order = order if time_axis < batch_axis else order.T
        order = order.reshape(order.shape + (1,) * (x.dim() - 2)).expand(x.shape)
        return torch.gather(x, time_axis, order)

    return run


def _unique(node: Node) -> Kernel:
    axis, in_order = node.attributes.get("axis"), bool(node.integer("sorted", 1))

    def run(x: Tensor) -> tuple[Tensor, ...]:
        x, at = (x.reshape(-1), 0) if axis is None else (x, int(axis))
        values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=at)
        inverse = inverse.reshape(-1)
        steps = torch.arange(len(inverse), device=x.device)
        first = torch.full((len(counts),), len(inverse), device=x.device).scatter_reduce(0, inverse, steps, "amin")
        if in_order:
            return values, first, inverse, counts
        order = torch.argsort(first)
        place = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device=x.device))
        return values.index_select(at, order), first[order], place[inverse], counts[order]

    return run


def _tensor_scatter(node: Node) -> Kernel:
    axis, circular = node.integer("axis", -2), node.text("mode", "linear") == "circular"

    def run(past: Tensor, update: Tensor, starts: Tensor | None = None) -> Tensor:
        at = axis % past.dim()
        offset = torch.zeros(past.shape[0], dtype=torch.int64, device=past.device) if starts is None else starts.long()
        shape = [1] * past.dim()
        shape[at] = update.shape[at]
        index = torch.arange(update.shape[at], device=past.device).reshape(shape)
        index = index + offset.reshape(-1, *([1] * (past.dim() - 1)))
        index = index % past.shape[at] if circular else index
        return past.scatter(at, index.expand(update.shape), update)

    return run


RULES: dict[str, Rule] = {
    "Compress": _compress,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": plain(lambda x: x.nonzero().T),
    "OneHot": _one_hot,
    "ReverseSequence": _reverse_sequence,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "TensorScatter": _tensor_scatter,
    "Unique": _unique,
}
