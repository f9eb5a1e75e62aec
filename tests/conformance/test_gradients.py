"""Autograd's derivatives of every differentiable operator against finite differences, in double precision."""

import numpy as np
import onnx
import pytest
import torch
from onnx import defs, helper

from tests.conformance.gradient_cases import CASES, PREVIEW, SCIKIT, SILENT, VARIANTS, Case, Graph
from tests.conformance.microsoft_cases import MICROSOFT
from tests.workers.autograd import graphs
from tools.operators_table import supported
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.operators.gradients import FORWARD_ONLY

ALL = {"": CASES, "ai.onnx.ml": SCIKIT, "ai.onnx.preview": PREVIEW, "com.microsoft": MICROSOFT}
CHECKED = [(domain, name) for domain, cases in ALL.items() for name in sorted(cases)]
EXCUSED = [(domain, name) for domain, names in FORWARD_ONLY.items() for name in names]


def _single(op_type: str, case: Case) -> onnx.ModelProto:
    names = ["" if array is None else f"x{at}" for at, array in enumerate(case.inputs)]
    results = [f"y{at}" for at in range(case.outputs)]
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, case.inputs, strict=True)
        if array is not None
    ]
    node = helper.make_node(op_type, names, results, domain=case.domain, **case.attributes)
    graph = helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name=name) for name in results])
    standard = defs.onnx_opset_version() if case.domain else case.opset or defs.onnx_opset_version()
    opsets = {"": standard, **({case.domain: case.opset} if case.domain else {})}
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*one) for one in opsets.items()], ir_version=8)


def gradients_hold(proto: onnx.ModelProto, case: Case | Graph) -> bool:
    """Vary every input in double precision that is not fixed; look at every floating output."""
    executor = Executor(graphs.model(proto), trainable=False).eval()
    fixed = case.fixed if isinstance(case, Case) else ()
    names = [value.name for value in proto.graph.input]
    tensors = [
        torch.from_numpy(array).requires_grad_(array.dtype == np.float64 and at not in fixed)
        for at, array in enumerate(case.inputs)
        if array is not None
    ]

    def run(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = executor(dict(zip(names, given, strict=True)))
        return tuple(value for value in found.values() if value.is_floating_point())

    assert all(value.requires_grad for value in run(*tensors)), "an output has no gradient"
    step = case.step if isinstance(case, Case) else 1e-6
    return torch.autograd.gradcheck(run, tensors, eps=step, atol=max(1e-5, step / 100))


@pytest.mark.parametrize(("domain", "op_type"), CHECKED)
def test_gradient_agrees_with_finite_differences(domain: str, op_type: str) -> None:
    case = ALL[domain][op_type]
    proto = onnx.parser.parse_model(case.text) if isinstance(case, Graph) else _single(op_type, case)
    assert op_type in {node.op_type for node in proto.graph.node}
    assert gradients_hold(proto, case)


@pytest.mark.parametrize(("op_type", "case"), VARIANTS, ids=[name for name, _ in VARIANTS])
def test_gradient_of_a_variant_agrees_with_finite_differences(op_type: str, case: Case) -> None:
    assert gradients_hold(_single(op_type, case), case)


@pytest.mark.parametrize("op_type", sorted(SILENT))
def test_gradient_at_zero_is_finite(op_type: str) -> None:
    case = SILENT[op_type]
    x = torch.from_numpy(case.inputs[0]).requires_grad_()
    more = {f"x{at}": torch.from_numpy(array) for at, array in enumerate(case.inputs) if at}
    Executor(graphs.model(_single(op_type, case)))({"x0": x, **more})["y0"].sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_every_operator_is_checked_or_has_a_reason() -> None:
    assert sorted({(one.domain, one.name) for one in supported()} - set(CHECKED) - set(EXCUSED)) == []


def test_no_operator_is_both_checked_and_excused() -> None:
    assert sorted(set(CHECKED) & set(EXCUSED)) == []


def test_nothing_is_checked_or_excused_that_is_no_operator() -> None:
    assert sorted({*CHECKED, *EXCUSED} - {(one.domain, one.name) for one in supported()}) == []
