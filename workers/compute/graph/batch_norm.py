"""Batch normalization that follows a convolution or matrix product, as part of its weights (Jacob et al., 2018, 3.2).

Of the four numbers per channel a bias is left; weights that have one magnitude per channel keep that.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph.constraints import Constraint, Mask, Signs
from workers.compute.graph.dataflow import drop_dead
from workers.compute.graph.model import Model

_EPSILON = 1e-5
_WEIGHT, _BIAS = 1, 2
_BIASED = 3

Float = NDArray[np.floating]


@dataclass(frozen=True)
class Site:
    """A batch normalization, the operator before it, its weight and the axis of that which holds the channels."""

    norm: ir.Node
    node: ir.Node
    weight: str
    axis: int


def sites(model: Model) -> Iterator[Site]:
    """Yield the batch normalizations whose input nothing else reads and comes of a weight that nothing else reads."""
    for norm in model.graph:
        value = norm.inputs[0] if norm.op_type == "BatchNormalization" else None
        node = value.producer() if value is not None else None
        if node is None or value is None or len(value.uses()) != 1 or value.is_graph_output():
            continue
        axis = _channels(node)
        if axis is None or not _constant(model, norm, 1) or not _constant(model, node, _WEIGHT):
            continue
        weight = node.inputs[_WEIGHT]
        if weight is not None and len(weight.uses()) == 1:
            yield Site(norm, node, str(weight.name), axis)


def folds(model: Model, site: Site) -> bool:
    """Whether the weight's promise, if there is one, outlives a factor per channel, none of which is zero."""
    constraint = model.constraints.get(site.weight)
    if isinstance(constraint, Signs):
        return constraint.axis == site.axis and bool(np.all(_factors(model, site)[0]))
    return constraint is None or isinstance(constraint, Mask)


def fold(model: Model, found: Iterable[Site]) -> None:
    """Take normalizations out, in place, and with them what only they read."""
    for site in found:
        _fold(model, site)
    for gone in drop_dead(model.graph):
        model.constraints.pop(gone, None)


def _fold(model: Model, site: Site) -> None:
    """Multiply the weight, add the rest as bias, and take the normalization out."""
    factor, shift = _factors(model, site)
    weight, dtype = model.read_floats(site.weight), model.read(site.weight).dtype
    wide = factor.reshape([-1 if axis == site.axis else 1 for axis in range(weight.ndim)])
    bias = _floats(model, site.node, _BIAS) if len(site.node.inputs) > _BIAS and site.node.inputs[_BIAS] else None
    total = shift if bias is None else shift + bias * factor
    model.write(site.weight, (weight * wide).astype(dtype))
    _rescale(model, site.weight, wide)
    _set_bias(model, site.node, total.astype(dtype), f"{site.weight}.folded")
    result, old = site.node.outputs[0], site.norm.outputs[0]
    name = old.name
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    model.graph.remove(site.norm, safe=True)
    result.name, result.shape, result.type = name, old.shape, old.type


def _channels(node: ir.Node) -> int | None:
    """Return the axis of the weight that holds the channels of the result."""
    if node.domain not in {"", "ai.onnx"}:
        return None
    if node.op_type == "Conv":
        return 0
    plain = all(node.attributes[name].as_float() == 1 for name in ("alpha", "beta") if name in node.attributes)
    if node.op_type != "Gemm" or not plain:
        return None
    return 0 if "transB" in node.attributes and node.attributes["transB"].as_int() else 1


def _constant(model: Model, node: ir.Node, first: int) -> bool:
    names = [str(value.name) for value in node.inputs[first:] if value is not None]
    return all(name in model.graph.initializers for name in names)


def _factors(model: Model, site: Site) -> tuple[Float, Float]:
    """Return what a channel is multiplied by and what is added, in float64."""
    gamma, beta, mean, variance = (_floats(model, site.norm, place) for place in range(1, 5))
    epsilon = site.norm.attributes["epsilon"].as_float() if "epsilon" in site.norm.attributes else _EPSILON
    factor = gamma / np.sqrt(variance + epsilon)
    return factor, beta - mean * factor


def _floats(model: Model, node: ir.Node, place: int) -> Float:
    value = node.inputs[place]
    if value is None:
        raise ValueError(node.name)
    return model.read_floats(str(value.name)).astype(np.float64)


def _rescale(model: Model, name: str, factor: Float) -> None:
    constraint: Constraint | None = model.constraints.get(name)
    if isinstance(constraint, Signs) and constraint.latent is not None:
        latent = (constraint.latent * factor).astype(constraint.latent.dtype)
        model.constraints[name] = replace(constraint, latent=latent)


def _set_bias(model: Model, node: ir.Node, values: Float, name: str) -> None:
    bias = model.add(name, values)
    if len(node.inputs) < _BIASED:
        node.resize_inputs(_BIASED)
    node.replace_input_with(_BIAS, bias)
