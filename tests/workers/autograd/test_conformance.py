"""ONNX's own node cases over the executor: every dense numeric case of the standard domain."""

import collections
import warnings

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase as NodeCase

from app.errors import ModelpressError
from workers.compute.autograd.dtypes import from_numpy, to_numpy
from workers.compute.autograd.executor import Executor
from workers.compute.graph.model import Model

# Of 1,807 dense numeric cases with onnx 1.23. What is left: pictures, text, random numbers, optional values, and
# dropout in training mode, which is identity here by intention.
FLOOR = 1774


def _dense(case: NodeCase) -> bool:
    values = [*case.model.graph.input, *case.model.graph.output]
    numeric = all(
        value.type.HasField("tensor_type") and value.type.tensor_type.elem_type != onnx.TensorProto.STRING
        for value in values
    )
    return numeric and all(node.domain in {"", "ai.onnx"} for node in case.model.graph.node)


def _tensor(value: object) -> torch.Tensor:
    array = onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    return from_numpy(array)


def _comparable(tensor: torch.Tensor) -> NDArray[np.generic]:
    return to_numpy(tensor).astype(np.complex128 if tensor.is_complex() else np.float64)


def _tolerance(case: NodeCase, kind: torch.dtype) -> dict[str, float]:
    """Return the case's own tolerance, widened to a last place: sums in another order differ by one."""
    half = kind.itemsize <= torch.float16.itemsize
    return {"rtol": max(case.rtol, 1e-2 if half else 1e-3), "atol": max(case.atol, 1e-6)}


def _failure(case: NodeCase) -> str | None:
    try:
        executor = Executor(Model(ir.from_proto(case.model)), trainable=False, dtype=torch.float16).eval()
        for inputs, outputs in case.data_sets:
            names = [value.name for value in case.model.graph.input]
            got = executor({name: _tensor(value) for name, value in zip(names, inputs, strict=False)})
            for value, expected in zip(case.model.graph.output, outputs, strict=True):
                mine, theirs = got[value.name], _tensor(expected)
                assert mine.shape == theirs.shape
                assert mine.dtype == theirs.dtype
                np.testing.assert_allclose(_comparable(mine), _comparable(theirs), **_tolerance(case, theirs.dtype))
    except (ModelpressError, AssertionError, KeyError) as fault:
        return type(fault).__name__
    return None


def test_executor_agrees_with_the_standards_own_node_cases() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx computes expected overflows while it makes its cases
        cases = [case for case in collect_testcases(None) if _dense(case)]
    failures = collections.defaultdict(list)
    with np.errstate(invalid="ignore"):  # some cases convert NaN
        for case in cases:
            if reason := _failure(case):
                failures[case.model.graph.node[-1].op_type].append(f"{case.name}: {reason}")
    passed = len(cases) - sum(map(len, failures.values()))
    assert passed >= FLOOR, f"{passed} of {len(cases)} pass; failures by operator: {dict(failures)}"
