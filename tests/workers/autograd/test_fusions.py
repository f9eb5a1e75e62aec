import collections

import pytest
import torch

from tests.workers.autograd import graphs
from tests.workers.autograd.test_executor import tensors, text
from workers.compute.autograd import executor as executor_module
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.fusions import FUSIONS


def kinds(executor: Executor) -> collections.Counter[str]:
    return collections.Counter(step.node.op_type for step in executor._plan(frozenset()).steps)


@pytest.mark.parametrize("opset", [11, 13])
def test_every_pattern_of_an_encoder_is_found(opset: int) -> None:
    found = kinds(Executor(graphs.model(graphs.encoder(opset))))
    assert [found[kind] for kind in ("Linear", "Gelu", "LayerNormalization", "Attention", "Erf", "Softmax")] == [
        12,
        2,
        5,
        2,
        0,
        0,
    ]


@pytest.mark.parametrize("count", range(1, len(FUSIONS) + 1))
def test_fused_values_and_gradients_agree_with_plain_ones(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fused, results = FUSIONS[:count], []
    for fusions in ((), fused):
        monkeypatch.setattr(executor_module, "FUSIONS", fusions)
        executor = Executor(graphs.model(graphs.encoder(13)))
        logits = executor(tensors(text()))["logits"]
        logits.square().sum().backward()
        results.append([logits.detach(), *(weight.grad for weight in executor.parameters())])
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-4)


def test_value_that_is_read_elsewhere_is_not_fused_away() -> None:
    sketch = graphs.Sketch(13)
    product = sketch.op("MatMul", "x", sketch.weight("w", 3, 3), out="product")
    sketch.op("Add", product, sketch.weight("b", 3), out="y")
    value = (1, ["N", 3])
    executor = Executor(graphs.model(sketch.proto({"x": value}, {"y": value, "product": value})))
    assert kinds(executor)["MatMul"] == 1
    assert set(executor({"x": torch.ones(2, 3)})) == {"y", "product"}
