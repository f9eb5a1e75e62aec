"""A session's inputs and outputs in the contract's words, and which output holds the scores."""

from dataclasses import dataclass

import onnxruntime as ort

from app.contracts.model import TensorSpec
from app.errors import ModelUnsupported
from workers.compute.graph.axes import plain

_FLOATS = ("float", "float16", "double", "bfloat16")
_MATRIX = 2


@dataclass(frozen=True)
class Signature:
    """Inputs, outputs, and the output that is judged."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    scores: TensorSpec

    @property
    def width(self) -> int | None:
        """Scores per row, or None when the file does not say or a row has more than one axis of them."""
        axes = self.scores.shape
        if len(axes) != _MATRIX or not isinstance(axes[1], int):
            return None
        return axes[1]

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the file fixes, or None when it is free."""
        fixed = [spec.shape[0] for spec in self.inputs if spec.shape and isinstance(spec.shape[0], int)]
        return fixed[0] if fixed and len(fixed) == len(self.inputs) else None


def signature_of(session: ort.InferenceSession) -> Signature:
    """Describe a session. The scores are the first floating output of rank 2 or more, else the first floating one.

    A classifier's output of label numbers is thereby passed over. Raises ModelUnsupported without a floating output.
    """
    outputs = tuple(_spec(argument) for argument in session.get_outputs())
    floating = [spec for spec in outputs if spec.dtype in _FLOATS]
    if not floating:
        raise ModelUnsupported("The model has no floating-point output to compare.")
    scores = next((spec for spec in floating if len(spec.shape) >= _MATRIX), floating[0])
    return Signature(tuple(_spec(argument) for argument in session.get_inputs()), outputs, scores)


def _spec(argument: ort.NodeArg) -> TensorSpec:
    kind = str(argument.type)
    dtype = kind.removeprefix("tensor(").removesuffix(")") if kind.startswith("tensor(") else kind
    return TensorSpec(name=argument.name, dtype=dtype, shape=[plain(axis) for axis in argument.shape])
