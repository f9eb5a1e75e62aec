"""How much a graph computes as soon as it is loaded: tensors of stated sizes, and what depends on constants alone.

A runtime folds constants when it opens a file, so a small file may keep it busy for hours. Runs nothing.
"""

import math
from collections.abc import Mapping

import onnx_ir as ir

from app.errors import ModelTooComplex
from workers.compute.graph.costs import written_out
from workers.compute.graph.macs import macs
from workers.compute.graph.model import Model
from workers.compute.graph.shapes import Shape, infer_all
from workers.compute.importers.budgets import MAX_TENSOR_BYTES
from workers.compute.wording import shown

MAX_CONSTANT_MACS = 20_000_000_000  # about a second
MAX_CONSTANT_BYTES = 4 << 30  # computed from constants alone, all together: twice what one file can hold
_BITS_PER_BYTE = 8

_Types = Mapping[str, tuple[ir.DataType, Shape]]


def check(model: Model) -> None:
    """Raise ModelTooComplex for a value of over 1 GiB, as far as its sizes are stated, and for work on constants."""
    whole = written_out(model)
    inferred = infer_all(whole, {})
    known = set(whole.graph.initializers.values())
    products = made_bytes = 0
    for node in whole.graph:
        for value in node.outputs:
            _fits(value, inferred.types)
        if all(value is None or value in known for value in node.inputs) and not _is_bare(node):
            known.update(node.outputs)
            products += macs(node, inferred) or 0
            made_bytes += sum(size_bytes(value, inferred.types) for value in node.outputs)
    if products > MAX_CONSTANT_MACS or made_bytes > MAX_CONSTANT_BYTES:
        raise ModelTooComplex(
            f"The model computes {products:,} products and {made_bytes:,} bytes from constants alone whenever it is "
            f"loaded; the limits are {MAX_CONSTANT_MACS:,} and {MAX_CONSTANT_BYTES:,}."
        )


def _is_bare(node: ir.Node) -> bool:
    """Whether a node without inputs makes random numbers, which no runtime computes in advance."""
    return not node.inputs and node.op_type.startswith("Random")


def size_bytes(value: ir.Value, types: _Types) -> int:
    """Return the bytes of a value, as if free axes were 1 long."""
    if str(value.name) not in types:
        return 0
    kind, shape = types[str(value.name)]
    bits = 64 if kind == ir.DataType.STRING else kind.bitwidth
    return math.prod(max(size, 1) for size in shape if size is not None) * bits // _BITS_PER_BYTE


def _fits(value: ir.Value, types: _Types) -> None:
    size = size_bytes(value, types)
    if size > MAX_TENSOR_BYTES:
        raise ModelTooComplex(
            f"{shown(str(value.name))!r} is a tensor of at least {size:,} bytes; the limit is {MAX_TENSOR_BYTES:,}."
        )
