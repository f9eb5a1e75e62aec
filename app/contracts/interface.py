"""Whether one model can take another's place: same inputs and outputs, up to the names of free axes."""

from collections.abc import Sequence
from typing import Protocol

from app.contracts.model import TensorSpec


class Interface(Protocol):
    """What goes into a model and what comes out, in order."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives."""


def difference(model: Interface, stand_in: Interface) -> str | None:
    """Return the first thing that keeps `stand_in` from taking the place of `model`, None if there is none.

    Axes that two tensors of the stand-in share by name must be shared in the model too. An axis without a name or size
    fits any that is free.
    """
    names: dict[str, str] = {}
    for noun, ours, theirs in (("input", model.inputs, stand_in.inputs), ("output", model.outputs, stand_in.outputs)):
        if [spec.name for spec in ours] != [spec.name for spec in theirs]:
            return f"its {noun}s are {_listed(theirs)}, those of the model {_listed(ours)}"
        for one, other in zip(ours, theirs, strict=True):
            if one.dtype != other.dtype or not _same_shape(one, other, names):
                return f"its {noun} {one.name} is {_shown(other)}, that of the model {_shown(one)}"
    return None


def _same_shape(one: TensorSpec, other: TensorSpec, names: dict[str, str]) -> bool:
    return len(one.shape) == len(other.shape) and all(
        _same_axis(ours, theirs, names) for ours, theirs in zip(one.shape, other.shape, strict=True)
    )


def _same_axis(ours: int | str | None, theirs: int | str | None, names: dict[str, str]) -> bool:
    if isinstance(ours, int) or isinstance(theirs, int):
        return ours == theirs
    return ours is None or theirs is None or names.setdefault(theirs, ours) == ours


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(spec.name for spec in specs) or "none"


def _shown(spec: TensorSpec) -> str:
    return f"{spec.dtype}[{', '.join('?' if axis is None else str(axis) for axis in spec.shape)}]"
