"""Random graphs of the supported operators: the executor computes what ONNX Runtime computes.

`make fuzz` draws thousands of new ones.
"""

import contextlib
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.conformance.random_graphs.draft import Array, Unfit, infer
from tests.conformance.random_graphs.strategy import RandomGraph, random_graphs
from tests.workers.autograd import graphs
from workers.compute.autograd.dtypes import from_numpy, to_numpy
from workers.compute.autograd.executor import Executor


def assert_agree(executor: Executor, graph: RandomGraph, inputs: Mapping[str, Array]) -> None:
    """Raise AssertionError unless all outputs agree, or Unfit where ONNX Runtime refuses the graph."""
    theirs = infer(graph.proto, inputs)
    with torch.no_grad():
        found = executor({name: from_numpy(array) for name, array in inputs.items()})
    for value, expected in zip(graph.proto.graph.output, theirs, strict=True):
        mine = to_numpy(found[value.name])
        assert (mine.shape, mine.dtype) == (expected.shape, expected.dtype), value.name
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4, err_msg=value.name)
        else:
            np.testing.assert_array_equal(mine, expected, err_msg=value.name)


# Only the profile that asks for new graphs replaces the one that repeats the same.
PROFILE = "fuzz" if settings.get_current_profile_name() == "fuzz" else "graphs"


@pytest.mark.timeout(400)  # hypothesis may take five minutes to make a failing graph small
@settings(settings.get_profile(PROFILE))
@given(graph=random_graphs(), trainable=st.booleans())
def test_executor_equals_onnxruntime_on(graph: RandomGraph, trainable: bool) -> None:
    executor = Executor(graphs.model(graph.proto), trainable=trainable, dtype=torch.float16).eval()
    try:
        assert_agree(executor, graph, graph.first)
    except Unfit:
        reject()
    second = graph.second()
    if second is not None:
        # Where it is refused, a shape in the graph is made for the first batch only.
        with contextlib.suppress(Unfit):
            assert_agree(executor, graph, second)
