"""What an encoding is given and what it returns. Knows no technique: values alone decide.

An encoding is a function `encode(contents, opset) -> Encoded | None`. It writes a few constants and a decode subgraph
of standard ONNX operators without inputs, so that a runtime's constant folding turns it back into one plain tensor.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[np.generic]

SLICE_TAKES_INPUTS = 10  # the opset; attributes before

Attribute = int | Sequence[int] | ir.TensorProtocol


@dataclass(frozen=True)
class Contents:
    """A tensor and the statistics that encodings decide by. Equality is that of bits: -0.0 is not 0.0."""

    name: str
    values: Array
    # Names inside decode subgraphs begin with `prefix`, followed by `number` unless tensors share what they name. They
    # are short, since the file holds every name several times.
    prefix: str = "packed"
    number: int = 0

    @cached_property
    def bits(self) -> NDArray[np.unsignedinteger]:
        """The flat values' bit patterns, as unsigned integers of the same width."""
        flat = np.ascontiguousarray(self.values).reshape(-1)
        return flat.view(f"u{flat.dtype.itemsize}")

    @cached_property
    def _distinct(self) -> tuple[NDArray[np.unsignedinteger], NDArray[np.intp]]:
        return np.unique(self.bits, return_counts=True)

    @property
    def distinct(self) -> NDArray[np.unsignedinteger]:
        """Distinct bit patterns, ascending; +0.0 comes first if it occurs."""
        return self._distinct[0]

    @property
    def commonest(self) -> NDArray[np.unsignedinteger]:
        """The bit pattern that most elements have (+0 if several do and it is one), shape (1,)."""
        place = int(np.argmax(self._distinct[1]))
        return self.distinct[place : place + 1]

    @property
    def scattered(self) -> int:
        """Elements whose bits are not the commonest."""
        return self.bits.size - int(self._distinct[1].max(initial=0))

    @cached_property
    def entropy_bits(self) -> float:
        """First-order entropy per element in bits: the bound for any code that treats elements alike."""
        shares = self._distinct[1] / self.bits.size
        return float(max(0.0, -(shares * np.log2(shares)).sum()))


@dataclass(frozen=True)
class Encoded:
    """Constants and operators whose single `output` is the tensor. No operators: the tensor is stored as it is."""

    output: ir.Value
    constants: Sequence[ir.Value]
    nodes: Sequence[ir.Node] = ()

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constants, without names and operators."""
        return sum(value.const_value.nbytes for value in self.constants if value.const_value is not None)


class Decoder:
    """Records the constants and operators of one decode subgraph."""

    def __init__(self, contents: Contents, opset: int) -> None:
        """Start an empty subgraph for a tensor in a model of this opset of the standard domain."""
        self.opset = opset
        self._contents = contents
        self._constants: list[ir.Value] = []
        self._nodes: list[ir.Node] = []

    def constant(self, label: str, values: Array) -> ir.Value:
        """Add an initializer of this tensor's own."""
        return self._add(f"{self._contents.prefix}{self._contents.number}/{label}", values)

    def _add(self, name: str, values: Array) -> ir.Value:
        # Without a shape and type of its own the value is not described a second time in the file.
        self._constants.append(ir.Value(name=name, const_value=ir.tensor(np.asarray(values, order="C"), name=name)))
        return self._constants[-1]

    def operator(self, op_type: str, *inputs: ir.Value, **attributes: Attribute) -> ir.Value:
        """Add a node with one output and return the output."""
        name = f"{self._contents.prefix}{self._contents.number}/{len(self._nodes)}"
        node = ir.node(op_type, list(inputs), attributes)
        node.outputs[0].name = name
        self._nodes.append(node)
        return node.outputs[0]

    def shaped(self, flat: ir.Value, shape: Sequence[int]) -> ir.Value:
        """Add a reshape to the fixed `shape`."""
        return self.operator("Reshape", flat, self.common(np.asarray(shape, np.int64)))

    def first(self, flat: ir.Value, count: int) -> ir.Value:
        """Add a slice that keeps the first `count` elements."""
        if self.opset < SLICE_TAKES_INPUTS:
            return self.operator("Slice", flat, starts=[0], ends=[count], axes=[0])
        start, end = (self.common(np.asarray([edge], np.int64)) for edge in (0, count))
        return self.operator("Slice", flat, start, end)

    def common(self, values: Array) -> ir.Value:
        """Return an initializer of small content that decode subgraphs of other tensors share, named by content."""
        content = f"{values.dtype}{values.tolist()}".encode()
        name = f"{self._contents.prefix}/{hashlib.blake2s(content, digest_size=6).hexdigest()}"
        known = next((constant for constant in self._constants if constant.name == name), None)
        return known if known is not None else self._add(name, values)

    def finish(self, output: ir.Value) -> Encoded:
        """Give the result the tensor's own name, shape and type."""
        values = self._contents.values
        output.name, output.shape = self._contents.name, ir.Shape(values.shape)
        output.type = ir.TensorType(ir.DataType.from_numpy(values.dtype))
        return Encoded(output, tuple(self._constants), tuple(self._nodes))
