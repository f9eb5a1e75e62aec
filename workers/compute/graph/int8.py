"""Weights stored as symmetric int8 in standard operators: embedding tables by row, other matrices by channel.

Arithmetic stays floating; zeros stay zeros. For what ONNX Runtime's quantiser leaves alone.
"""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph.model import Model
from workers.compute.graph.readers import Reader, matrices, output_axis, readers

_QUANTIZED = "_quantized"  # what ONNX Runtime's quantiser adds to the name of a weight
_LIMIT = 127  # symmetric: -128 is not used, so that w and -w quantise alike
# Smaller tensors would not pay for the operators that decode them.
_MIN_BYTES = 1024


def quantize(values: NDArray[np.generic], axis: int | None) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 values and their scales: one for each index of `axis` (kept as a dimension), or a single one."""
    floats = values.astype(np.float32)
    others = None if axis is None else tuple(place for place in range(floats.ndim) if place != axis)
    largest = np.abs(floats).max(axis=others, keepdims=True)
    # A scale below the smallest normal number would lose its digits or be zero; weights as small as that become zero.
    scales = np.where(largest > _LIMIT * np.finfo(np.float32).tiny, largest / _LIMIT, 1).astype(np.float32)
    return np.clip(np.rint(floats / scales), -_LIMIT, _LIMIT).astype(np.int8), scales


def quantize_tables(model: Model, exclude: Collection[str], *, per_row: bool) -> int:
    """Store embedding tables as int8 in place; rows become floating after they are gathered. Return how many."""
    tables = [name for name, reader in matrices(model).items() if _is_table(model, name, reader, exclude)]
    for name in tables:
        value = model.graph.initializers[name]
        weights = model.read(name)
        quantized, scales = quantize(weights, 0 if per_row else None)
        kind = ir.DataType.from_numpy(weights.dtype)
        table = model.add(f"{name}_int8", quantized)
        scale = model.add(f"{name}_scale", scales.astype(weights.dtype).reshape(-1, *[1] * (weights.ndim - 1)))
        for use in tuple(value.uses()):
            _gather_int8(use.node, table, scale, kind, per_row=per_row)
        del model.graph.initializers[name]
        model.constraints.pop(name, None)
    return len(tables)


def quantize_storage(model: Model, exclude: Collection[str], *, per_channel: bool) -> int:
    """Store the matrices and kernels that are still floating as int8 in place, decoded at load. Return how many."""
    stored = 0
    for name, reader in matrices(model).items():
        weights = model.read(name)
        if weights.nbytes < _MIN_BYTES or any(
            use.node.name in exclude for use in readers(model.graph.initializers[name])
        ):
            continue
        axis = output_axis(reader) if per_channel else None
        quantized, scales = quantize(weights, axis)
        _decode(model, name, quantized, scales)
        stored += 1
    return stored


def narrow(model: Model) -> int:
    """Divide the integers of matrix products by their channel's greatest common divisor, in place. Return how many.

    Their scales take the factor, so the weights stay what they are. Ternary ones become -1, 0 and 1 in place of -127, 0
    and 127: of these, two products with 8-bit activations overflow the 16 bits in which x86 processors without VNNI
    add them up. A Gemm in static mode stays as it is: its bias is stored in the weight's scale.
    """
    weights = (_factors(node) for node in model.graph)
    names = sorted({str(weight.name) for weight in weights if weight is not None and weight.is_initializer()})
    return sum(_narrowed(model, name, name.removesuffix(_QUANTIZED)) for name in names)


def _factors(node: ir.Node) -> ir.Value | None:
    """Return the integers that a matrix product, or what decodes them for nothing but such, has as its right side."""
    if node.op_type == "MatMulInteger":
        return node.inputs[1]
    uses = node.outputs[0].uses() if node.op_type == "DequantizeLinear" else ()
    return node.inputs[0] if uses and all(use.node.op_type == "MatMul" and use.idx == 1 for use in uses) else None


def _narrowed(model: Model, name: str, stem: str) -> bool:
    scale_name, zero_name = f"{stem}_scale", f"{stem}_zero_point"
    if not {scale_name, zero_name} <= model.graph.initializers.keys() or model.read(zero_name).any():
        return False
    integers, scale = model.read(name), model.read(scale_name)
    if integers.ndim != 2:  # noqa: PLR2004  # of others, which axis the scales belong to is not told by the name
        return False
    common = np.maximum(np.gcd.reduce(np.abs(integers.astype(np.int16)), axis=0 if scale.size > 1 else None), 1)
    if (common == 1).all():
        return False
    model.write(name, (integers // common).astype(integers.dtype))
    model.write(scale_name, (scale * common.reshape(scale.shape)).astype(scale.dtype))
    return True


def _is_table(model: Model, name: str, reader: Reader, exclude: Collection[str]) -> bool:
    uses = model.graph.initializers[name].uses()
    direct = all(use.node.op_type == "Gather" and use.idx == 0 and use.node.name not in exclude for use in uses)
    rows = all((axis := use.node.attributes.get("axis")) is None or axis.as_int() == 0 for use in uses)
    return reader.node.op_type == "Gather" and direct and rows and model.read(name).nbytes >= _MIN_BYTES


def _gather_int8(gather: ir.Node, table: ir.Value, scale: ir.Value, kind: ir.DataType, *, per_row: bool) -> None:
    """Let the node gather int8 rows, and multiply them by their scales."""
    indices, output = gather.inputs[1], gather.outputs[0]
    prefix = str(output.name)
    rows = ir.node("Gather", [table, indices], {"axis": 0}, name=f"{prefix}/int8")
    cast = ir.node("Cast", [rows.outputs[0]], {"to": int(kind)}, name=f"{prefix}/float")
    factors = [ir.node("Gather", [scale, indices], {"axis": 0}, name=f"{prefix}/scale")] if per_row else []
    factor = factors[0].outputs[0] if factors else scale
    product = ir.node("Mul", [cast.outputs[0], factor], name=f"{prefix}/scaled")
    nodes = [rows, cast, *factors, product]
    for node in nodes:
        node.outputs[0].name = f"{node.name}_output"
    graph = gather.graph
    if graph is None:
        msg = "a node outside any graph"
        raise ValueError(msg)
    graph.insert_after(gather, nodes)
    result = product.outputs[0]
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(gather, safe=True)
    result.name, result.shape, result.type = prefix, output.shape, ir.TensorType(kind)


def _decode(model: Model, name: str, quantized: NDArray[np.int8], scales: NDArray[np.float32]) -> None:
    """Replace a floating initializer by int8 · scale; the product keeps the name.

    Cast and Mul are folded when the file is loaded. DequantizeLinear would run in every call (ONNX Runtime 1.32).
    """
    value = model.graph.initializers[name]
    weights = model.read(name)
    kind = ir.DataType.from_numpy(weights.dtype)
    del model.graph.initializers[name]
    model.constraints.pop(name, None)
    stored = model.add(f"{name}_int8", quantized)
    scale = model.add(f"{name}_scale", scales.astype(weights.dtype))
    cast = ir.node("Cast", [stored], {"to": int(kind)}, name=f"{name}/cast")
    cast.outputs[0].name = f"{name}/unscaled"
    product = ir.node("Mul", [cast.outputs[0], scale], name=f"{name}/scaled")
    decoded = product.outputs[0]
    decoded.name, decoded.shape, decoded.type = name, ir.Shape(quantized.shape), ir.TensorType(kind)
    value.replace_all_uses_with(decoded)
    model.graph.insert_before(next(iter(model.graph)), [cast, product])
