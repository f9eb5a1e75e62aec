"""Loops that do not run, and masks longer than what they choose from: as ONNX Runtime has it."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from tests.workers.autograd import graphs
from workers.compute.autograd.executor import Executor

Array = NDArray[np.generic]


def both(text: str, inputs: dict[str, Array]) -> tuple[list[Array], list[Array]]:
    """Return ONNX Runtime's outputs and ours."""
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {text}')
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    theirs = session.run(None, inputs)
    found = Executor(graphs.model(proto)).eval()({name: torch.from_numpy(array) for name, array in inputs.items()})
    return theirs, [found[value.name].detach().numpy() for value in proto.graph.output]


LOOP = """g (int64 n, bool go, float[2,3] x) => (float[2,3] y, float[k,2,3] each) {
  y, each = Loop (n, go, x) <body = b (int64 i, bool c, float[2,3] h) => (bool d, float[2,3] o, float[2,3] e) {
    d = Identity (c) o = Tanh (h) e = Neg (o) }> }"""
SCAN = """g (float[2] s, float[k,2] rows) => (float[2] y, float[2,k] each) {
  y, each = Scan <num_scan_inputs = 1, scan_output_axes = [1],
    body = b (float[2] h, float[2] r) => (float[2] o, float[2] e) { o = Add (h, r) e = Neg (o) }> (s, rows) }"""
READS_FIRST = """g (int64 n, bool go, float[k] x) => (float[m] each) {
  each = Loop (n, go) <body = b (int64 i, bool c) => (bool d, float e) { d = Identity (c) e = Gather (x, i) }> }"""


@pytest.mark.parametrize(("count", "go"), [(0, True), (3, False), (3, True)])
def test_loop_yields_empty_rows_when_it_makes_no_trip(count: int, go: bool) -> None:
    x = np.ones((2, 3), np.float32)
    theirs, ours = both(LOOP, {"n": np.array(count), "go": np.array(go), "x": x})

    for wanted, got in zip(theirs, ours, strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_scan_yields_empty_rows_when_there_are_none() -> None:
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {SCAN}')

    # ONNX Runtime refuses to scan nothing.
    found = Executor(graphs.model(proto)).eval()({"s": torch.ones(2), "rows": torch.ones(0, 2)})

    assert (found["y"].tolist(), found["each"].shape) == ([1, 1], (2, 0))


def test_loop_over_nothing_runs_when_its_body_reads_the_first_row() -> None:
    theirs, ours = both(READS_FIRST, {"n": np.array(0), "go": np.array(1, np.bool_), "x": np.zeros(0, np.float32)})

    assert [part.shape for part in ours] == [part.shape for part in theirs]


def test_compress_passes_over_conditions_when_there_are_more_than_elements() -> None:
    text = "g (float[3] x, bool[5] c) => (float[m] y) { y = Compress (x, c) }"
    inputs: dict[str, Array] = {"x": np.arange(3, dtype=np.float32), "c": np.array([True, False, True, True, True])}
    (theirs,), (ours,) = both(text, inputs)

    np.testing.assert_array_equal(ours, theirs)
