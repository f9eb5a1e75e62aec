"""What a rule sees of a node: its attributes, and the sizes of what it reads and yields."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from workers.compute.graph.shapes import Inferred, complete

Sized = tuple[int, ...]


class SizeUnknown(Exception):
    """A size that the count depends on is not known."""


@dataclass(frozen=True)
class Operands:
    """A node, and what is known of the values around it."""

    node: ir.Node
    inferred: Inferred

    def has(self, at: int) -> bool:
        """Whether the input is there."""
        return at < len(self.node.inputs) and self.node.inputs[at] is not None

    def shape(self, at: int) -> Sized:
        """Return the shape of an input. Raises SizeUnknown."""
        return self._known(self.node.inputs[at] if at < len(self.node.inputs) else None)

    def result(self, at: int = 0) -> Sized:
        """Return the shape of an output. Raises SizeUnknown."""
        return self._known(self.node.outputs[at])

    def first_result(self) -> Sized:
        """Return the shape of the first output that has a name. Raises SizeUnknown."""
        return self._known(next((value for value in self.node.outputs if value.name), None))

    def number(self, at: int) -> int:
        """Return the whole number that an input holds. Raises SizeUnknown."""
        value = self.node.inputs[at]
        found = self.inferred.numbers.get(str(value.name)) if value is not None else None
        if found is None:
            raise SizeUnknown
        return int(found.reshape(-1)[0])

    def integer(self, name: str, default: int = 0) -> int:
        """Return an integer attribute."""
        found = self.node.attributes.get(name)
        return default if found is None else found.as_int()

    def integers(self, name: str) -> Sized:
        """Return a list attribute, () when it is absent."""
        found = self.node.attributes.get(name)
        return () if found is None else tuple(found.as_ints())

    def text(self, name: str) -> str:
        """Return a string attribute."""
        found = self.node.attributes.get(name)
        return "" if found is None else found.as_string()

    def _known(self, value: ir.Value | None) -> Sized:
        _, shape = self.inferred.types.get(str(value.name), (None, None)) if value is not None else (None, None)
        found = complete(shape)
        if found is None:
            raise SizeUnknown
        return found


Rule = Callable[[Operands], int]
