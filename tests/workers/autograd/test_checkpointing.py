"""Activation checkpointing and the life of buffers, on the CPU."""

import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from examples.networks import residual_cnn
from tests.workers.autograd import graphs
from tests.workers.autograd.test_executor import tensors, text
from workers.compute.autograd import executor as executor_module
from workers.compute.autograd.checkpointing import counted
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.plan import Plan, Step
from workers.compute.graph.constraints import Mask

Inputs = dict[str, torch.Tensor]
Tensors = list[torch.Tensor]


def pictures() -> Inputs:
    return {"image": torch.from_numpy(np.random.default_rng(0).normal(size=(6, 1, 12, 12)).astype(np.float32))}


NETWORKS: dict[str, tuple[Callable[[], onnx.ModelProto], Callable[[], Inputs]]] = {
    "encoder": (lambda: graphs.encoder(13, graphs.Encoder(layers=6)), lambda: tensors(text(8, 24))),
    "cnn": (lambda: residual_cnn((8, 16), 3, 12, 10), pictures),
}


def passed(executor: Executor, inputs: Inputs) -> tuple[int, torch.Tensor, Tensors, Tensors]:
    """Run forward and backward; return the bytes kept in between, the logits, the gradients and the statistics."""
    executor.train()
    known = [*executor.parameters(), *executor.statistics, *inputs.values()]
    executor(inputs)  # the first pass measures
    executor.zero_grad()
    with counted(known) as kept:
        logits = executor(inputs)["logits"]
    size = kept.size
    logits.square().sum().backward()
    gradients = [weight.grad.clone() for weight in executor.parameters() if weight.grad is not None]
    return size, logits.detach(), gradients, [statistic.clone() for statistic in executor.statistics]


@pytest.mark.parametrize("network", NETWORKS)
def test_recomputed_activations_give_the_same_bits_and_take_less_memory(network: str) -> None:
    make, inputs = NETWORKS[network]
    plain = passed(Executor(graphs.model(make())), inputs())
    executor = Executor(graphs.model(make()), activation_bytes=0)
    again = passed(executor, inputs())
    assert executor.recomputes
    assert torch.equal(again[1], plain[1])
    for mine, theirs in ((again[2], plain[2]), (again[3], plain[3])):
        assert len(mine) == len(theirs)
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert len(again[2]) == len(executor.trained)
    assert again[0] < plain[0] / 2


def test_activations_that_fit_are_kept() -> None:
    make, inputs = NETWORKS["cnn"]
    executor = Executor(graphs.model(make()), activation_bytes=1 << 30).train()
    executor(inputs())["logits"].sum().backward()
    assert not executor.recomputes


def test_larger_batch_is_measured_anew() -> None:
    make, inputs = NETWORKS["cnn"]
    small = {"image": inputs()["image"][:1]}
    with counted([]) as kept:
        Executor(graphs.model(make())).train()(small)
    executor = Executor(graphs.model(make()), activation_bytes=2 * kept.size).train()
    executor(small)
    assert not executor.recomputes
    executor(inputs())
    assert executor.recomputes


def test_statistics_learn_once_when_the_batch_did_not_fit() -> None:
    make, inputs = NETWORKS["cnn"]
    executors = [Executor(graphs.model(make()), activation_bytes=limit).train() for limit in (None, 0)]
    for executor in executors:
        executor(inputs())["logits"].sum().backward()
    for mine, theirs in zip(executors[1].statistics, executors[0].statistics, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("fixed", [False, True])
def test_mode_at_the_backward_pass_does_not_matter(*, fixed: bool) -> None:
    make, inputs = NETWORKS["cnn"]
    found = []
    for limit in (None, 0):
        executor = Executor(graphs.model(make()), activation_bytes=limit).train()
        executor.fixed_statistics = fixed
        loss = executor(inputs())["logits"].square().sum()
        with torch.no_grad():
            executor.eval()(inputs())
        loss.backward(retain_graph=True)
        loss.backward()
        found.append([weight.grad for weight in executor.parameters()])
    for mine, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def noisy(seed: float | None) -> onnx.ModelProto:
    """Layers with noise added between them."""
    sketch = graphs.Sketch(17)
    x = "x"
    for layer in range(12):
        x = sketch.op("Tanh", sketch.op("MatMul", x, sketch.weight(f"w{layer}", 8, 8)))
        noise = sketch.op("RandomNormalLike", x, **({} if seed is None else {"seed": seed}))
        x = sketch.op("Mul", x, noise)
    sketch.op("Identity", x, out="logits")
    value = (TensorProto.FLOAT, ["N", 8])
    return sketch.proto({"x": value}, {"logits": value})


@pytest.mark.parametrize("seed", [None, 7.0])
def test_random_numbers_are_drawn_once(seed: float | None) -> None:
    found = []
    for limit in (None, 0):
        executor = Executor(graphs.model(noisy(seed)))
        # Measuring would draw as well.
        executor.activation_bytes, executor.recomputes = limit, limit is not None
        torch.manual_seed(0)
        logits = executor({"x": torch.ones(4, 8)})["logits"]
        logits.square().sum().backward()
        found.append([logits.detach(), *(weight.grad for weight in executor.parameters())])
    for mine, theirs in zip(found[1], found[0], strict=True):
        assert mine is not None
        assert theirs is not None
        assert torch.equal(mine, theirs)


def test_full_device_makes_it_compute_again(monkeypatch: pytest.MonkeyPatch) -> None:
    make, inputs = NETWORKS["cnn"]
    expected = Executor(graphs.model(make()))(inputs())["logits"]
    run, failures = executor_module.run, [torch.OutOfMemoryError("full")]

    def full_once(steps: tuple[Step, ...], values: list[torch.Tensor | None]) -> None:
        if failures:
            raise failures.pop()
        run(steps, values)

    monkeypatch.setattr(executor_module, "run", full_once)
    executor = Executor(graphs.model(make()), activation_bytes=1 << 40)
    assert torch.equal(executor(inputs())["logits"], expected)
    assert executor.recomputes


def chain(length: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Neg", [f"v{at}"], [f"v{at + 1}"]) for at in range(length)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["N"]) for name in ("v0", f"v{length}")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def watched(plan: Plan, most: list[int]) -> Plan:
    """Return the plan with kernels that note how many of the tensors that they see and make are alive at once."""
    seen: list[weakref.ref[torch.Tensor]] = []

    def watch(step: Step) -> Step:
        def kernel(*inputs: torch.Tensor | None) -> object:
            result = step.kernel(*inputs)
            made = result if isinstance(result, tuple) else (result,)
            seen.extend(weakref.ref(tensor) for tensor in (*inputs, *made) if tensor is not None)
            most.append(len({id(tensor) for ref in seen if (tensor := ref()) is not None}))
            return result

        return replace(step, kernel=kernel)

    return replace(plan, steps=tuple(map(watch, plan.steps)))


def test_buffers_die_when_they_are_last_used() -> None:
    executor = Executor(graphs.model(chain(40)), trainable=False)
    most: list[int] = []
    executor._plans[frozenset()] = watched(executor._plan(frozenset()), most)
    executor({"v0": torch.ones(8, dtype=torch.float16)})
    # What a step reads and what it makes; the input itself is a copy in float32 that dies like any other.
    assert len(most) == 40
    assert max(most) == 2


def test_masked_weights_die_after_their_product() -> None:
    sketch = graphs.Sketch(17)
    x = "x"
    for layer in range(10):
        x = sketch.op("MatMul", x, sketch.weight(f"w{layer}", 8, 8), out="y" if layer == 9 else "")
    value = (TensorProto.FLOAT, ["N", 8])
    model = graphs.model(sketch.proto({"x": value}, {"y": value}))
    for layer in range(10):
        kept = np.arange(64).reshape(8, 8) % 2 == 0
        model.constraints[f"w{layer}"] = Mask(kept)
        model.write(f"w{layer}", model.constraints[f"w{layer}"].project(model.read(f"w{layer}")))
    executor = Executor(model)
    most: list[int] = []
    executor._plans[frozenset()] = watched(executor._plan(frozenset()), most)
    with torch.no_grad():
        executor({"x": torch.ones(2, 8)})
    assert max(most) <= 4
