"""Runs ONNX's node cases through one converter and prints a line for each: `case 7 1`, or `case 8 0 reason`.

Started by bench.node_cases with the converter's own interpreter, again behind the case that ended it.
"""

import importlib
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.backend.test.case.test_case import TestCase as NodeCase
from torch import Tensor

from tests.conformance import node_cases

# A runner takes the inputs by name and returns the outputs in the graph's order.
Runner = Callable[[Mapping[str, Tensor]], Sequence[Tensor]]
CASE_SECONDS = 20
# What a converter lacks where torchvision's compiled part does not fit PyTorch's CPU build.
MISSING = "TorchvisionOperatorMissing"
SIGNS = ("custom C++ ops", "torchvision::", "torchvision' object has no attribute")


def modelpress(model: onnx.ModelProto) -> Runner:
    """Return our executor, in the graph's own types."""
    executor_type = importlib.import_module("workers.compute.autograd.executor").Executor
    model_type = importlib.import_module("workers.compute.graph.model").Model
    executor = executor_type(model_type(ir.from_proto(model)), trainable=False, dtype=torch.float16).eval()

    def run(inputs: Mapping[str, Tensor]) -> Sequence[Tensor]:
        found = executor(inputs)
        return [found[value.name] for value in model.graph.output]

    return run


def onnx2fx(model: onnx.ModelProto) -> Runner:
    """Return the module of onnx2fx."""
    return _positional(importlib.import_module("onnx2fx").convert(model))


def onnx2torch(model: onnx.ModelProto) -> Runner:
    """Return the module of onnx2torch."""
    return _positional(importlib.import_module("onnx2torch").convert(model))


def _positional(module: torch.nn.Module) -> Runner:
    def run(inputs: Mapping[str, Tensor]) -> Sequence[Tensor]:
        found = module.eval()(*inputs.values())
        found = list(found.values()) if isinstance(found, dict) else found
        return list(found) if isinstance(found, list | tuple) else [found]

    return run


CONVERTERS: Mapping[str, Callable[[onnx.ModelProto], Runner]] = {
    "modelpress": modelpress,
    "onnx2fx": onnx2fx,
    "onnx2torch": onnx2torch,
}


def declare_vision_operators() -> None:
    """Let torchvision import where its compiled part does not fit PyTorch's CPU build: its operators then refuse."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")


def verdict(convert: Callable[[onnx.ModelProto], Runner], case: NodeCase) -> str:
    """Return 1, or 0 and the kind of failure."""
    signal.alarm(CASE_SECONDS)  # its default action ends this process, and the case counts as failed
    try:
        run = convert(case.model)
        for inputs, outputs in case.data_sets:
            with torch.no_grad():
                found = run(node_cases.inputs_of(case, inputs))
            for got, expected in zip(found, outputs, strict=True):
                node_cases.check(case, got, expected)
    except Exception as fault:  # noqa: BLE001 - converters raise anything
        return f"0 {MISSING if any(sign in str(fault) for sign in SIGNS) else type(fault).__name__}"
    finally:
        signal.alarm(0)
    return "1"


def main(name: str, start: int) -> None:
    """Run the cases from `start` on."""
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    torch.manual_seed(0)
    if name != "modelpress":
        declare_vision_operators()
    for index, case in enumerate(node_cases.dense_cases()[start:], start):
        print(f"case {index} {verdict(CONVERTERS[name], case)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
