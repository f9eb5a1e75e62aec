"""What removal promises, as one check: the same answers as zeros give, parameters as counted, free axes still free."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from workers.compute.graph.costs import cost
from workers.compute.graph.dimensions import Coupling, remove_units
from workers.compute.graph.dimensions.groups import Removed
from workers.compute.graph.model import Model

Array = NDArray[np.generic]
Feeds = Mapping[str, Array]


def answers(model: Model, feeds: Feeds) -> list[Array]:
    """Run in ONNX Runtime, graph as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    file = ir.serde.serialize_model(model.ir).SerializeToString()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, dict(feeds))
    return found


def zeroed(model: Model, coupling: Coupling, removed: Removed) -> Model:
    """Return the model with the weights of the units set to zero."""
    zero = model.clone()
    for name, units in removed.items():
        for member in coupling.by_name[name].members:
            values = np.array(zero.read(member.tensor))
            np.moveaxis(values, member.axis, 0)[np.isin(member.units, list(units))] = 0
            zero.write(member.tensor, values)
    return zero


def check(model: Model, coupling: Coupling, removed: Removed, *feeds: Feeds) -> Model:
    """Remove units, hold the result to the promises for every feed, and return it."""
    small = remove_units(model, coupling, removed)
    assert cost(small).parameters == coupling.parameters(removed)
    assert cost(small).parameters < cost(model).parameters
    exact = all(coupling.by_name[name].normalized is None for name in removed)
    zero = zeroed(model, coupling, removed)
    for feed in feeds:
        for found, expected in zip(answers(small, feed), answers(zero, feed), strict=True):
            assert found.shape == expected.shape
            assert np.isfinite(found).all()
            if exact:
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    return small


def half(coupling: Coupling, seed: int = 0) -> Removed:
    """Choose half of the units of every group at random."""
    rng = np.random.default_rng(seed)
    return {group.name: rng.choice(group.units, group.units // 2, replace=False).tolist() for group in coupling.groups}
