"""Reductions over axes, cumulative sums, arg-max and top-k."""

from collections.abc import Callable

import torch
from torch import Tensor

from workers.compute.autograd.operators.base import Kernel, Node, Rule, TensorKernel, axes_of, scalar

# Receives the tensor, the axes (never empty) and keepdim.
Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _reduce(reduction: Reduction) -> Rule:
    def rule(node: Node) -> Kernel:
        keep, fixed = bool(node.integer("keepdims", 1)), node.integers("axes")
        skip_empty = bool(node.integer("noop_with_empty_axes"))

        def alone(x: Tensor) -> Tensor:
            """Reduce each element alone: what is summed is one number, but its square or logarithm still counts."""
            drop = False
            return reduction(x.unsqueeze(-1), [x.dim()], drop)

        def run(x: Tensor, given: Tensor | None = None) -> Tensor:
            axes = axes_of(given, fixed)
            if not axes and skip_empty:
                return alone(x)
            axes = axes or list(range(x.dim()))
            return reduction(x, axes, keep) if axes else alone(x)

        return run

    return rule


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001 - PyTorch's own signature
    return torch.sum(x, axes, keep, dtype=x.dtype)


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001 - PyTorch's own signature
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001 - PyTorch's own signature
    if x.is_floating_point():
        return torch.mean(x, axes, keep)
    return torch.mean(x.double(), axes, keep).to(x.dtype)


def _extreme(function: TensorKernel, worst: float) -> Reduction:
    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001 - PyTorch's own signature
        if x.numel():
            return function(x, axes, keep)
        shape = list(torch.sum(x, axes, keep).shape)
        return torch.full(shape, _worst(x.dtype, worst), dtype=x.dtype, device=x.device)

    return run


def _worst(kind: torch.dtype, worst: float) -> float:
    if kind.is_floating_point:
        return worst
    if kind == torch.bool:
        return worst > 0
    return torch.iinfo(kind).min if worst < 0 else torch.iinfo(kind).max


def _norm(x: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001 - PyTorch's own signature
    if x.is_floating_point():
        norm: Tensor = torch.linalg.vector_norm(x, 2, axes, keep)
        return norm
    return torch.sqrt(torch.sum(x.double().square(), axes, keep)).to(x.dtype)


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001 - PyTorch's own signature
    return torch.logsumexp(x, axes, keep)


def _arg(function: Callable[..., Tensor]) -> Rule:
    def rule(node: Node) -> Kernel:
        axis, keep = node.integer("axis"), bool(node.integer("keepdims", 1))
        last = bool(node.integer("select_last_index"))

        def run(x: Tensor) -> Tensor:
            if not last:
                return function(x, axis, keep)
            return x.shape[axis] - 1 - function(x.flip(axis), axis, keep)

        return run

    return rule


def _top_k(node: Node) -> Kernel:
    axis, fixed = node.integer("axis", -1), node.integer("k")
    largest = bool(node.integer("largest", 1))

    def run(x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # A stable sort keeps the lower index first among equal values, as the standard asks; topk does not.
        count = fixed if given is None else int(scalar(given))
        values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)

    return run


def _cumulate(function: Callable[..., Tensor], neutral: int) -> Rule:
    def rule(node: Node) -> Kernel:
        exclusive, reverse = node.integer("exclusive"), node.integer("reverse")

        def run(x: Tensor, axis_input: Tensor) -> Tensor:
            axis = int(scalar(axis_input))
            x = x.flip(axis) if reverse else x
            total = function(x, axis, dtype=x.dtype)
            if exclusive:
                shape = list(x.shape)
                shape[axis] = 1
                first = torch.full(shape, neutral, dtype=x.dtype, device=x.device)
                total = torch.cat([first, total.narrow(axis, 0, x.shape[axis] - 1)], axis)
            return total.flip(axis) if reverse else total

        return run

    return rule


RULES: dict[str, Rule] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "CumProd": _cumulate(torch.cumprod, 1),
    "CumSum": _cumulate(torch.cumsum, 0),
    "ReduceL1": _reduce(lambda x, axes, keep: _sum(x.abs(), axes, keep)),
    "ReduceL2": _reduce(_norm),
    "ReduceLogSum": _reduce(lambda x, axes, keep: torch.log(_sum(x, axes, keep))),
    "ReduceLogSumExp": _reduce(_log_sum_exp),
    "ReduceMax": _reduce(_extreme(torch.amax, float("-inf"))),
    "ReduceMean": _reduce(_mean),
    "ReduceMin": _reduce(_extreme(torch.amin, float("inf"))),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(_sum),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: _sum(x * x, axes, keep)),
    "TopK": _top_k,
}
