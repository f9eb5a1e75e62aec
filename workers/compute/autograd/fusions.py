"""Rewrites of a plan that make it faster without changing what it computes.

Each checks at build time what the graph shows, and at run time what only shapes show, else computes as before.
"""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.builder import Fusion
from workers.compute.autograd.matching import Flow, flow_of, replaced
from workers.compute.autograd.operators.base import Kernel, Node
from workers.compute.autograd.plan import Step

_MATRIX = 2
_ATTENTION_RANK = 4


def _fused(kernel: Kernel, inputs: tuple[int, ...], last: Step, name: str) -> Step:
    return Step(kernel, inputs, last.outputs[:1], Node(op_type=name, opset=last.node.opset, name=last.node.name))


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.dim() == _MATRIX and bias.dim() == 1 and len(bias) == weight.shape[1] and x.dim() > 1:
        return F.linear(x, weight.t(), bias)
    return torch.matmul(x, weight) + bias


def fuse_linear(steps: Sequence[Step], template: Sequence[Tensor | None], wanted: Collection[int]) -> list[Step]:
    """MatMul, Add → one product that starts from the bias."""
    flow, fused = flow_of(steps, template, wanted), {}
    for add in steps:
        if add.node.op_type != "Add":
            continue
        for slot in add.inputs:
            product = flow.maker(slot, "MatMul")
            bias = flow.other(add, slot)
            if product is None or not flow.inner(slot) or bias in flow.makers:
                continue
            fused[add.outputs[0]] = _fused(_linear, (*product.inputs, bias), add, "Linear")
    return replaced(flow, fused)


def _gelu_end(flow: Flow, x: int, added: Step) -> Step | None:
    """Follow 1 + erf to the end of the pattern: times x and one half, in any order."""
    times = flow.sole_reader(added.outputs[0], "Mul")
    if times is None:
        return None
    partner = flow.other(times, added.outputs[0])
    if partner == x:
        last = flow.sole_reader(times.outputs[0], "Mul")
        return last if last is not None and flow.is_near(flow.other(last, times.outputs[0]), 0.5) else None
    if flow.is_near(partner, 0.5):
        last = flow.sole_reader(times.outputs[0], "Mul")
        return last if last is not None and flow.other(last, times.outputs[0]) == x else None
    half = flow.maker(partner, "Mul")
    return times if half is not None and x in half.inputs and flow.is_near(flow.other(half, x), 0.5) else None


def fuse_gelu(steps: Sequence[Step], template: Sequence[Tensor | None], wanted: Collection[int]) -> list[Step]:
    """X · ½ · (1 + erf(x / √2)) → GELU (Hendrycks & Gimpel, 2016)."""
    flow, fused = flow_of(steps, template, wanted), {}
    for erf in steps:
        if erf.node.op_type != "Erf":
            continue
        scaled = flow.maker(erf.inputs[0], "Div", "Mul")
        if scaled is None:
            continue
        x, factor = scaled.inputs if flow.number(scaled.inputs[1]) is not None else scaled.inputs[::-1]
        wanted_factor = math.sqrt(2) if scaled.node.op_type == "Div" else math.sqrt(0.5)
        added = flow.sole_reader(erf.outputs[0], "Add")
        if added is None or not flow.is_near(factor, wanted_factor):
            continue
        last = _gelu_end(flow, x, added) if flow.is_near(flow.other(added, erf.outputs[0]), 1.0) else None
        if last is not None:
            fused[last.outputs[0]] = _fused(F.gelu, (x,), last, "Gelu")
    return replaced(flow, fused)


def _last_axis(flow: Flow, mean: Step) -> int | None:
    """Return the one axis that a mean keeps as size 1."""
    if not mean.node.integer("keepdims", 1):
        return None
    axes = mean.node.integers("axes")
    if axes is None and len(mean.inputs) > 1:
        given = flow.template[mean.inputs[1]]
        axes = None if given is None else given.reshape(-1).tolist()
    return axes[0] if axes is not None and len(axes) == 1 else None


def _centred(flow: Flow, slot: int) -> tuple[int, int] | None:
    """Return (x, axis) if the slot is x minus its mean over one axis."""
    minus = flow.maker(slot, "Sub")
    mean = None if minus is None else flow.maker(minus.inputs[1], "ReduceMean")
    if minus is None or mean is None or mean.inputs[0] != minus.inputs[0]:
        return None
    axis = _last_axis(flow, mean)
    return None if axis is None else (minus.inputs[0], axis)


def _squared(flow: Flow, slot: int) -> int | None:
    power = flow.maker(slot, "Pow", "Mul")
    if power is None:
        return None
    squares = power.inputs[0] == power.inputs[1] if power.node.op_type == "Mul" else flow.is_near(power.inputs[1], 2.0)
    return power.inputs[0] if squares else None


def _layer_norm(axis: int, epsilon: float) -> Kernel:
    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        last = axis in {-1, x.dim() - 1}
        if last and scale.shape == bias.shape == x.shape[-1:]:
            return F.layer_norm(x, scale.shape, scale, bias, epsilon)
        var, mean = torch.var_mean(x, axis, correction=0, keepdim=True)
        return (x - mean) / torch.sqrt(var + epsilon) * scale + bias

    return run


def fuse_layer_norm(steps: Sequence[Step], template: Sequence[Tensor | None], wanted: Collection[int]) -> list[Step]:
    """(x − mean) / √(var + ε) · scale + bias → layer normalization."""
    flow, fused = flow_of(steps, template, wanted), {}
    for root in steps:
        if root.node.op_type != "Sqrt":
            continue
        added = flow.maker(root.inputs[0], "Add")
        divided = flow.sole_reader(root.outputs[0], "Div")
        if added is None or divided is None or divided.inputs[1] != root.outputs[0]:
            continue
        var_slot = added.inputs[0] if flow.number(added.inputs[1]) is not None else added.inputs[1]
        epsilon, var = flow.number(flow.other(added, var_slot)), flow.maker(var_slot, "ReduceMean")
        square = None if var is None else _squared(flow, var.inputs[0])
        if var is None or square is None or epsilon is None:
            continue
        source, again = _centred(flow, square), _centred(flow, divided.inputs[0])
        if source is None or source != again or _last_axis(flow, var) != source[1]:
            continue
        times = flow.sole_reader(divided.outputs[0], "Mul")
        plus = None if times is None else flow.sole_reader(times.outputs[0], "Add")
        if times is None or plus is None:
            continue
        inputs = (source[0], flow.other(times, divided.outputs[0]), flow.other(plus, times.outputs[0]))
        fused[plus.outputs[0]] = _fused(_layer_norm(source[1], epsilon), inputs, plus, "LayerNormalization")
    return replaced(flow, fused)


def _attend(scale: float, axis: int) -> Kernel:
    def run(q: Tensor, k_flipped: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        rank_fits = q.dim() == k_flipped.dim() == v.dim() == _ATTENTION_RANK and axis in {-1, _ATTENTION_RANK - 1}
        if rank_fits and (mask is None or mask.dim() in {_MATRIX, _ATTENTION_RANK}):
            bias = None if mask is None else mask.to(q.dtype)
            return F.scaled_dot_product_attention(q, k_flipped.transpose(-1, -2), v, bias, scale=scale)
        scores = torch.matmul(q, k_flipped) * scale
        return torch.matmul(torch.softmax(scores if mask is None else scores + mask, axis), v)

    return run


def _scores(flow: Flow, slot: int) -> tuple[Step, float] | None:
    """Return the product of queries and keys behind a slot, and the constant that it is multiplied with."""
    if not flow.inner(slot):
        return None
    product = flow.maker(slot, "MatMul")
    if product is not None:
        return product, 1.0
    scaled = flow.maker(slot, "Div", "Mul")
    if scaled is None:
        return None
    source = (
        scaled.inputs[0]
        if scaled.node.op_type == "Div" or flow.number(scaled.inputs[1]) is not None
        else scaled.inputs[1]
    )
    factor = flow.number(flow.other(scaled, source))
    product = flow.maker(source, "MatMul") if flow.inner(source) else None
    if product is None or not factor:
        return None
    return product, 1 / factor if scaled.node.op_type == "Div" else factor


def fuse_attention(steps: Sequence[Step], template: Sequence[Tensor | None], wanted: Collection[int]) -> list[Step]:
    """softmax(q · k · scale + mask) · v → scaled dot-product attention (Dao et al., 2022)."""
    flow, fused = flow_of(steps, template, wanted), {}
    for softmax in steps:
        if softmax.node.op_type != "Softmax":
            continue
        axis = softmax.node.integer("axis", -1 if softmax.node.opset > 12 else 1)  # noqa: PLR2004 - see activations
        last = flow.sole_reader(softmax.outputs[0], "MatMul")
        if last is None or last.inputs[0] != softmax.outputs[0]:
            continue
        found = _scores(flow, softmax.inputs[0])
        mask: tuple[int, ...] = ()
        masked = flow.maker(softmax.inputs[0], "Add")
        if found is None and masked is not None and flow.inner(softmax.inputs[0]):
            for slot in masked.inputs:
                found = found or _scores(flow, slot)
                mask = (flow.other(masked, slot),) if found is not None and not mask else mask
        if found is None:
            continue
        product, scale = found
        inputs = (product.inputs[0], product.inputs[1], last.inputs[1], *mask)
        fused[last.outputs[0]] = _fused(_attend(scale, axis), inputs, last, "Attention")
    return replaced(flow, fused)


FUSIONS: tuple[Fusion, ...] = (fuse_gelu, fuse_layer_norm, fuse_attention, fuse_linear)
