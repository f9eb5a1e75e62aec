import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.errors import DatasetMismatch, ModelUnsupported, RuntimeRefused
from tests.workers.autograd import graphs
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.straight import run_sums
from workers.compute.graph.constraints import Codebook, Mask

Arrays = dict[str, NDArray[np.generic]]


def text(rows: int = 3, length: int = 9, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, length + 1, (rows, 1))
    mask = (np.arange(length) < lengths).astype(np.int64)
    return {"input_ids": rng.integers(0, 50, (rows, length)), "attention_mask": mask}


def images(rows: int = 3) -> Arrays:
    return {"image": np.random.default_rng(0).normal(size=(rows, 1, 16, 16)).astype(np.float32)}


def tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def reference(proto: onnx.ModelProto, inputs: Arrays) -> list[NDArray[np.generic]]:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.generic]] = session.run(None, inputs)
    return outputs


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
@pytest.mark.parametrize("length", [1, 9, 30])
def test_encoder_agrees_with_onnxruntime(opset: int, length: int) -> None:
    proto, inputs = graphs.encoder(opset), text(length=length) if length > 1 else text(length=2)
    found = Executor(graphs.model(proto)).eval()(tensors(inputs))
    np.testing.assert_allclose(found["logits"].detach(), reference(proto, inputs)[0], atol=1e-4)


@pytest.mark.parametrize("opset", [9, 11, 13, 20])
def test_cnn_agrees_with_onnxruntime(opset: int) -> None:
    proto, inputs = graphs.cnn(opset), images()
    found = Executor(graphs.model(proto)).eval()(tensors(inputs))
    np.testing.assert_allclose(found["scores"].detach(), reference(proto, inputs)[0], atol=1e-4)


def test_frozen_executor_agrees_with_a_trainable_one() -> None:
    proto, inputs = graphs.encoder(13), tensors(text())
    frozen = Executor(graphs.model(proto), trainable=False).eval()
    assert not list(frozen.parameters())
    torch.testing.assert_close(frozen(inputs), Executor(graphs.model(proto)).eval()(inputs))


def test_captured_values_survive_fusing() -> None:
    executor = Executor(graphs.model(graphs.encoder(13))).eval()
    name = next(node.outputs[0].name for node in executor.model.graph if node.op_type == "Softmax")
    found = executor(tensors(text()), (name,))
    torch.testing.assert_close(found[name].sum(-1), torch.ones(3, 4, 9))


def test_every_weight_gets_a_gradient() -> None:
    executor = Executor(graphs.model(graphs.encoder(13)))
    executor(tensors(text()))["logits"].square().sum().backward()
    without = [name for name, weight in executor.trained.items() if next(weight.parameters()).grad is None]
    assert without == []


def test_operator_without_a_rule_is_named_at_build_time() -> None:
    node = helper.make_node("Inverse", ["x"], ["y"], name="invert", domain="com.example")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "N"]) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 3)]
    with pytest.raises(ModelUnsupported, match=r"Inverse \(domain com.example, opset 3\) at node invert"):
        Executor(graphs.model(helper.make_model(graph, opset_imports=imports)))


def test_missing_input_is_named() -> None:
    with pytest.raises(DatasetMismatch, match="attention_mask"):
        Executor(graphs.model(graphs.encoder(13)))({"input_ids": torch.zeros(1, 2, dtype=torch.int64)})


def test_inputs_that_do_not_fit_name_the_node() -> None:
    with pytest.raises(RuntimeRefused, match="Conv"):
        Executor(graphs.model(graphs.cnn()))({"image": torch.zeros(1, 3, 16, 16)})


def test_functions_of_the_model_are_opened() -> None:
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    nodes = [
        helper.make_node("Twice", ["x"], ["m"], domain="local"),
        helper.make_node("Twice", ["m"], ["y"], domain="local"),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy"]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", value[:1], value[1:]), opset_imports=imports, functions=[function]
    )
    found = Executor(graphs.model(proto))({"x": torch.ones(2)})
    torch.testing.assert_close(found["y"], torch.full((2,), 4.0))


def test_batch_statistics_are_used_and_learned_in_training_only() -> None:
    model = graphs.model(graphs.cnn())
    executor, before = Executor(model), model.read("conv1.mean").copy()
    executor.eval()(tensors(images()))
    executor.write_back()
    assert np.array_equal(model.read("conv1.mean"), before)
    executor.train()(tensors(images()))
    executor.write_back()
    assert not np.array_equal(model.read("conv1.mean"), before)


def test_write_back_without_training_changes_no_bit() -> None:
    model = graphs.model(graphs.encoder(13))
    before = {name: model.read(name).copy() for name in model.weights()}
    Executor(model).write_back()
    assert all(np.array_equal(model.read(name), value) for name, value in before.items())


def test_write_back_keeps_half_precision() -> None:
    model = graphs.model(graphs.cnn())
    model.write("head.weight", model.read("head.weight").astype(np.float16))
    executor = Executor(model)
    assert executor.trained["head.weight"]().dtype == torch.float32
    executor.write_back()
    assert model.read("head.weight").dtype == np.float16


def test_set_constraint_keeps_the_parameter_of_a_mask() -> None:
    model = graphs.model(graphs.cnn())
    executor = Executor(model)
    parameter = next(executor.trained["head.weight"].parameters())
    kept = np.arange(32).reshape(4, 8) % 2 == 0
    executor.set_constraint("head.weight", Mask(kept))
    assert next(executor.trained["head.weight"].parameters()) is parameter
    executor.write_back()
    assert model.constraints["head.weight"].holds(model.read("head.weight"))
    assert not model.read("head.weight")[~kept].any()


def test_sums_are_those_of_each_cluster_when_runs_are_sorted() -> None:
    indices = torch.randint(0, 300, (1000,), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    indices[indices == 7] = 8  # an empty cluster among others
    values = torch.arange(1000, dtype=torch.float32)

    found = run_sums(values, indices, 301)

    torch.testing.assert_close(found, torch.bincount(indices, values, 301).to(torch.float32))


def test_gradient_of_a_centroid_is_the_sum_over_its_cluster() -> None:
    model = graphs.model(graphs.cnn())
    indices = (np.arange(32) % 3).reshape(4, 8).astype(np.uint8)
    constraint = Codebook(indices, 3, zero=1)
    model.constraints["head.weight"] = constraint
    model.write("head.weight", constraint.project(model.read("head.weight")))
    executor, free = Executor(model), Executor(graphs.model(graphs.cnn()))
    with torch.no_grad():
        next(free.trained["head.weight"].parameters()).copy_(executor.trained["head.weight"]())
    for one in (executor, free):
        one.eval()(tensors(images()), ("logits",))["logits"].square().sum().backward()
    shared = next(executor.trained["head.weight"].parameters()).grad
    whole = next(free.trained["head.weight"].parameters()).grad
    assert shared is not None
    assert whole is not None
    sums = np.bincount(indices.reshape(-1), whole.numpy().reshape(-1))
    np.testing.assert_allclose(shared.numpy(), [sums[0], 0, sums[2]], rtol=1e-5)


@pytest.mark.parametrize("opset", [11, 17])
def test_shape_arithmetic_never_reads_from_the_device(opset: int) -> None:
    # The meta device has no values at all: reading one would raise, as reading a GPU's would wait.
    executor = Executor(graphs.model(graphs.encoder(opset)), device="meta")
    logits = executor(tensors(text()))["logits"]
    logits.sum().backward()
    assert logits.shape == (3, 3)
    assert logits.device.type == "meta"


def scikit_classifier() -> onnx.ModelProto:
    """A standardised linear classifier as skl2onnx writes it, its labels taken from an array of classes."""
    rng = np.random.default_rng(0)
    weights = onnx.numpy_helper.from_array(rng.normal(size=(4, 3)).astype(np.float32), "w")
    classes = onnx.numpy_helper.from_array(np.array([7, 8, 9], np.int32), "classes")
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.5, 1.0, 0.0, -1.0], scale=[2.0] * 4),
        helper.make_node("MatMul", ["s", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1),
        helper.make_node("ArrayFeatureExtractor", ["classes", "best"], ["found"], domain="ai.onnx.ml"),
        helper.make_node("Cast", ["found"], ["label"], to=TensorProto.INT64),
    ]
    value = helper.make_tensor_value_info
    outputs = [value("label", TensorProto.INT64, [1, "n"]), value("scores", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, ["n", 4])], outputs, [weights, classes])
    imports = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def test_operators_around_a_scikit_classifier_agree_with_onnxruntime() -> None:
    proto = scikit_classifier()
    rows: Arrays = {"x": np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)}
    found = Executor(graphs.model(proto)).eval()(tensors(rows))
    label, scores = reference(proto, rows)
    np.testing.assert_array_equal(found["label"].numpy(), label)
    np.testing.assert_allclose(found["scores"].detach().numpy(), scores, rtol=1e-5, atol=1e-5)
