"""What a rule sees of a node, and the small vocabulary that rules are written in. Knows no graph and no plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import onnx_ir as ir
import torch
from torch import Tensor

from app.errors import ModelUnsupported

# Inputs and outputs are tensors or, for an absent optional one, None; only the plan calls a kernel.
Kernel = Callable[..., Any]
# A kernel of one output.
TensorKernel = Callable[..., Tensor]


class Body(Protocol):
    """A compiled subgraph of If, Loop or Scan."""

    captures: slice

    @property
    def count(self) -> int:
        """The number of outputs."""

    def __call__(self, inputs: Sequence[Tensor | None], captured: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Run it on its inputs and on the outer values that it reads."""


@dataclass(frozen=True)
class Node:
    """One node at build time: attributes as plain values, which inputs are there, their types and constant values.

    `outputs` counts up to the last one that is read, `declared` all that the node names.
    `precision` is the type that narrower floating types are computed in; `training()` tells the executor's mode.
    """

    op_type: str
    opset: int
    name: str = ""
    domain: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: tuple[Tensor | None, ...] = ()
    present: tuple[bool, ...] = ()
    types: tuple[ir.DataType | None, ...] = ()
    outputs: int = 1
    declared: int = 1
    precision: torch.dtype = torch.float32
    training: Callable[[], bool] = bool

    def integer(self, name: str, default: int = 0) -> int:
        """Return an integer attribute."""
        return int(self.attributes.get(name, default))

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a float attribute."""
        return float(self.attributes.get(name, default))

    def integers(self, name: str) -> list[int] | None:
        """Return a list attribute, None when it is absent."""
        found = self.attributes.get(name)
        return None if found is None else [int(value) for value in found]

    def text(self, name: str, default: str = "") -> str:
        """Return a string attribute."""
        found = self.attributes.get(name, default)
        return found.decode() if isinstance(found, bytes) else str(found)

    def has(self, index: int) -> bool:
        """Whether the optional input is there."""
        return index < len(self.present) and self.present[index]

    def refuse(self, what: str) -> ModelUnsupported:
        """Return the error for a variant of the operator that has no rule."""
        return unsupported(self, what)


Rule = Callable[[Node], Kernel]


def unsupported(node: Node, what: str = "") -> ModelUnsupported:
    """Return the named refusal of a node."""
    where = f"{node.op_type} (domain {node.domain or 'ai.onnx'}, opset {node.opset}) at node {node.name or '(unnamed)'}"
    return ModelUnsupported(f"operator {where} is not supported{': ' + what if what else ''}")


def plain(kernel: Kernel) -> Rule:
    """Return the rule of an operator without attributes."""
    return lambda _: kernel


def axes_of(given: Tensor | None, fixed: list[int] | None) -> list[int] | None:
    """Return the axes from the input (newer opsets) or from the attribute (older ones)."""
    return fixed if given is None else [int(axis) for axis in given.reshape(-1).tolist()]


def root(x: Tensor, order: float = 2) -> Tensor:
    """Return the root of non-negative numbers; its gradient at zero, infinite by the book, is zero."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, torch.ones_like(x)) ** (1 / order), torch.zeros_like(x))


def scalar(tensor: Tensor) -> Any:  # noqa: ANN401 - a Python int, float or bool
    """Return a one-element tensor's value."""
    return tensor.reshape(-1)[0].item()
