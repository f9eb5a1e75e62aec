"""Which weight the time of a node in ONNX Runtime's graph belongs to, and what int8 did not reach."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.quantize_int4 import QuantizeInt4
from app.contracts.steps.quantize_int8 import QuantizeInt8
from app.contracts.steps.ternarize import Ternarize
from examples.networks import residual_cnn
from tests.workers.compute.orders import mlp
from workers.compute.encodings.packer import Packed, pack
from workers.compute.graph.model import load, save
from workers.compute.profiling import NodeTime, Profile, Subject, profile, profile_with_graph
from workers.compute.runtime import SessionOptions
from workers.compute.techniques import TECHNIQUES
from workers.compute.techniques.base import Context
from workers.compute.tracing import fallback, shares

Step = PruneWeights | QuantizeInt4 | QuantizeInt8 | Ternarize
CONVOLUTIONS = {f"stage{stage}.0.{half}.weight" for stage in (0, 1) for half in "ab"} | {"stage1.0.short.weight"}


def subject(path: Path) -> Subject:
    return Subject(path, SessionOptions(threads=1), batch_size=2)


def published(path: Path, *steps: Step) -> tuple[Packed, Profile]:
    """Apply steps to the model at `path`, pack it, and profile the file."""
    model = load(path)
    for step in steps:
        context = Context(original=model, dataset=None, scratch=path.parent, progress=lambda _share, _point: None)
        model = TECHNIQUES[step.technique](model, step, context).model
    packed = pack(model)
    target = path.parent / "published.onnx"
    save(packed.model, target)
    return packed, profile_with_graph(subject(target), path.parent)


def timed(found: Profile, times: Mapping[str, float]) -> Profile:
    """Return the profile with these times in place of measured ones, and none for other nodes."""
    known = {node.name for node in found.nodes}
    assert times.keys() <= known, known
    return replace(found, nodes=tuple(replace(node, microseconds=times.get(node.name, 0.0)) for node in found.nodes))


def cnn(folder: Path) -> Path:
    onnx.save(residual_cnn((16, 32), 1, 16, 10), folder / "cnn.onnx")
    return folder / "cnn.onnx"


def named(packed: Packed) -> dict[str, int]:
    return {tensor.name: tensor.parameters for tensor in packed.tensors}


@pytest.mark.parametrize("step", [Ternarize(epochs=0), PruneWeights(sparsity=0.9, epochs=0), QuantizeInt4(epochs=0)])
def test_time_belongs_to_the_tensor_when_it_is_decoded_at_load_and_its_reader_fused(step: Step, tmp_path: Path) -> None:
    packed, found = published(mlp(tmp_path / "model.onnx"), step)
    assert all(tensor.encoding != "dense" for tensor in packed.tensors)
    known = shares(packed.model, named(packed), timed(found, {"fused first": 3.0, "second": 1.0}))
    assert known == pytest.approx({"w1": 0.75, "w2": 0.25})


def test_time_belongs_to_the_tensor_when_the_runtime_changes_layout_and_folds_norms(tmp_path: Path) -> None:
    packed, found = published(cnn(tmp_path))
    assert {tensor.name for tensor in packed.tensors} == {*CONVOLUTIONS, "head.weight"}
    known = shares(packed.model, named(packed), found)
    assert known.keys() == {*CONVOLUTIONS, "head.weight"}
    assert 0.3 < sum(known.values()) <= 1
    one = next(node.name for node in found.nodes if node.name.startswith("stage1.0.short."))
    assert shares(packed.model, named(packed), timed(found, {one: 1.0}))["stage1.0.short.weight"] == 1


def test_time_belongs_to_the_tensor_when_its_integers_are_scaled_at_load(tmp_path: Path) -> None:
    packed, found = published(cnn(tmp_path), QuantizeInt8())
    known = shares(packed.model, named(packed), found)
    assert known.keys() == {f"{name}_int8" for name in CONVOLUTIONS - {"stage1.0.short.weight"}}


def test_tensors_share_the_time_when_one_node_reads_both(tmp_path: Path) -> None:
    packed, found = published(mlp(tmp_path / "model.onnx"))
    sizes = {"w1": 64 * 96, "b1": 96}
    known = shares(packed.model, sizes, timed(found, {"fused first": 1.0}))
    assert known == pytest.approx({"w1": 64 / 65, "b1": 1 / 65})


def test_nodes_are_told_apart_when_they_have_no_names(tmp_path: Path) -> None:
    nameless = onnx.load(mlp(tmp_path / "model.onnx"))
    for node in nameless.graph.node:
        node.name = ""
    onnx.save(nameless, tmp_path / "model.onnx")
    packed, found = published(tmp_path / "model.onnx")
    last = next(node.name for node in found.nodes if node.operator == "Gemm")
    known = shares(packed.model, named(packed), timed(found, {last: 1.0}))
    assert known == {"w1": 0.0, "w2": 1.0}


def test_nothing_is_traced_when_the_graph_is_unknown(tmp_path: Path) -> None:
    path = mlp(tmp_path / "model.onnx")
    found = profile(subject(path), tmp_path)
    assert {time.operator for time in found.operators} == {"FusedGemm", "Gemm"}
    assert sum(time.share for time in found.operators) == pytest.approx(1)
    assert shares(load(path), {"w1": 1}, found) == {}
    assert fallback(found) is None


def test_profile_leaves_no_files_behind(tmp_path: Path) -> None:
    path = mlp(tmp_path / "model.onnx")
    profile_with_graph(subject(path), tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_call_does_not_count(tmp_path: Path) -> None:
    found = profile(subject(mlp(tmp_path / "model.onnx")), tmp_path)
    assert {node.calls for node in found.nodes} == {1.0}


def test_time_of_a_branch_is_not_told_twice(tmp_path: Path) -> None:
    found = profile(subject(_branching(tmp_path / "model.onnx")), tmp_path)
    assert {node.operator for node in found.nodes} == {"Exp"}


def _branching(path: Path) -> Path:
    branch = onnx.parser.parse_graph("inside () => (float[N, 4] y) { y = Exp (x) }")
    choice = onnx.helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch)
    x, yes, z = (
        onnx.helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (("x", 1, ["N", 4]), ("yes", 9, []), ("z", 1, ["N", 4]))
    )
    graph = onnx.helper.make_graph([choice], "outside", [x, yes], [z])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_fallback_names_the_layer_that_int8_left_alone(tmp_path: Path) -> None:
    _, found = published(mlp(tmp_path / "model.onnx"), QuantizeInt8(exclude=["second"]))
    slow = next(node.name for node in found.nodes if node.operator == "Gemm")
    other = next(node.name for node in found.nodes if node.operator == "DynamicQuantizeMatMul")
    assert str(fallback(timed(found, {slow: 1.0, other: 3.0}))) == (
        "1 of 2 matrix products still calculates in floating point (25% of the time in operators): second_MatMul."
    )


def test_nothing_fell_back_when_all_is_integer(tmp_path: Path) -> None:
    _, found = published(mlp(tmp_path / "model.onnx"), QuantizeInt8())
    assert fallback(found) is None


def test_fallback_counts_convolutions_that_dynamic_int8_leaves_alone(tmp_path: Path) -> None:
    _, found = published(cnn(tmp_path), QuantizeInt8())
    told = fallback(found)
    assert told is not None
    assert (told.count, told.total, told.what, told.operators) == (6, 7, "layers", {"Conv"})
    assert len(told.layers) == 3
    assert str(told).endswith(", ….")


def test_operators_are_summed_longest_first() -> None:
    nodes = (
        NodeTime("a", "Gemm", "cpu", calls=1, microseconds=1),
        NodeTime("b", "Relu", "cpu", calls=1, microseconds=5),
        NodeTime("c", "Gemm", "cpu", calls=1, microseconds=2),
    )
    found = Profile(nodes).operators
    assert [(time.operator, time.calls, time.share, time.microseconds) for time in found] == [
        ("Relu", 1, 0.625, 5.0),
        ("Gemm", 2, 0.375, 3.0),
    ]
