"""ONNX's own node cases: which of them count, and when an output agrees. Knows no runtime that they are run on."""

import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase as NodeCase
from torch import Tensor

from workers.compute.autograd.dtypes import from_numpy, to_numpy

_STANDARD = frozenset({"", "ai.onnx"})


def is_dense(case: NodeCase) -> bool:
    """Whether all inputs and outputs are tensors of numbers and all nodes are in the standard domain."""
    values = [*case.model.graph.input, *case.model.graph.output]
    numeric = all(
        value.type.HasField("tensor_type") and value.type.tensor_type.elem_type != onnx.TensorProto.STRING
        for value in values
    )
    return numeric and all(node.domain in _STANDARD for node in case.model.graph.node)


def dense_cases() -> list[NodeCase]:
    """Return the dense numeric cases of the standard domain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx computes expected overflows while it makes its cases
        return [case for case in collect_testcases(None) if is_dense(case)]


def is_native(case: NodeCase) -> bool:
    """Whether PyTorch takes every array of the case from numpy as it is: no bfloat16, no 8-, 4- or 2-bit float."""
    arrays = [_array(value) for inputs, outputs in case.data_sets for value in (*inputs, *outputs)]
    return all(array.dtype.isbuiltin == 1 and array.dtype.char in np.typecodes["All"] for array in arrays)


def _array(value: object) -> NDArray[np.generic]:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def tensor(value: object) -> Tensor:
    """Return an input or output of a case as a tensor."""
    return from_numpy(_array(value))


def inputs_of(case: NodeCase, arrays: Sequence[object]) -> dict[str, Tensor]:
    """Return one data set's inputs by name; trailing optional ones may be missing."""
    return {value.name: tensor(array) for value, array in zip(case.model.graph.input, arrays, strict=False)}


def _comparable(value: Tensor) -> NDArray[np.generic]:
    return to_numpy(value).astype(np.complex128 if value.is_complex() else np.float64)


def check(case: NodeCase, got: Tensor, expected: object) -> None:
    """Raise AssertionError unless shape, type and, within the suite's tolerance, the values agree.

    The relative tolerance is the suite's default of 1e-3, and 1e-2 for types of two bytes and less, whose last place
    a sum in another order changes.
    """
    wanted = tensor(expected)
    assert got.shape == wanted.shape, f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
    assert got.dtype == wanted.dtype, f"{got.dtype} instead of {wanted.dtype}"
    narrow = wanted.dtype.itemsize <= torch.float16.itemsize
    tolerance = {"rtol": max(case.rtol, 1e-2 if narrow else 1e-3), "atol": max(case.atol, 1e-6)}
    np.testing.assert_allclose(_comparable(got), _comparable(wanted), **tolerance)
