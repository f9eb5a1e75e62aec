"""The tensor as it is."""

import onnx_ir as ir

from workers.compute.encodings.base import Contents, Encoded


def encode(contents: Contents, opset: int) -> Encoded:  # noqa: ARG001  # every encoding is told
    """Return the tensor as a plain initializer: always possible."""
    tensor = ir.tensor(contents.values, name=contents.name)
    value = ir.Value(
        name=contents.name,
        shape=ir.Shape(contents.values.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    return Encoded(value, (value,))
