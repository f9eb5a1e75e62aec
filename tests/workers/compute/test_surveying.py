"""What a survey tells of a model: counts that recipes are made of, and which tensors bear coarser values worst."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from app.contracts.report import Latency, Report
from app.contracts.survey import Survey
from app.contracts.tasks import LOGITS, Done, SurveyOrder
from tests.workers.compute.orders import ZERO, digits_npz, mlp, tell
from workers.compute import surveying
from workers.compute.channel import Channel
from workers.compute.measuring import Original
from workers.compute.sensitivity import damage
from workers.compute.tensor_files import Contents, write

SURVEY: dict[str, object] = {
    "kind": "survey",
    "goal": {},
    "low": {"steps": [{"technique": "quantize_int8"}]},
    "narrow": {"steps": [{"technique": "prune_neurons", "ratio": 0.75, "epochs": 0}]},
}


def order(scratch: Path, **changes: object) -> dict[str, object]:
    """Put the digits' network, unless another lies there, and the digits in their places; return an order on both."""
    (scratch / "in").mkdir(parents=True, exist_ok=True)
    if not (scratch / "in/model.onnx").exists():
        mlp(scratch / "in/model.onnx")
    digits_npz(scratch / "in/digits.npz")
    common = {
        "model": {"path": "in/model.onnx", "sha256": ZERO},
        "dataset": {"path": "in/digits.npz", "sha256": ZERO, "format": "npz"},
        "task": "classification",
        "seed": 0,
        "threads": 1,
    }
    return common | changes


def done(scratch: Path, **changes: object) -> Done:
    """Run an order in a child."""
    told = tell(scratch, order(scratch, **changes))
    assert isinstance(told.last, Done), told.errors
    return told.last


def surveyed(scratch: Path, **changes: object) -> Survey:
    found = done(scratch, **{**SURVEY, **changes}).survey
    assert found is not None
    return found


def test_a_survey_counts_what_can_be_made_smaller(tmp_path: Path) -> None:
    found = surveyed(tmp_path / "one")
    assert (found.labelled, found.floating_inputs) == (True, True)
    assert (found.layers, found.tables, found.heads, found.channels, found.batch_norms) == (0, 0, 0, 0, 0)
    assert found.neurons == 1
    assert found.macs == 64 * 96 + 96 * 10
    assert 1000 < found.rows < 1797
    assert found.quality is not None
    assert found.quality.split == "validation"
    assert found.quality.scores["accuracy"].value > 0.9
    assert found.p50_ms > 0
    assert found.low_faster is not None
    assert found.low_faster > 0
    assert found.narrow_faster is not None
    assert found.narrow_faster > 0


def test_a_busy_moment_does_not_make_the_original_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    races, turns = Original.races, iter([1000.0] * 4 + [1.0, 1000.0])

    def slowed(self: Original, *given: Any) -> tuple[list[Latency], list[Latency]]:
        ours, theirs = races(self, *given)
        by = next(turns)
        return ours, [each.model_copy(update={"p50_ms": each.p50_ms * by}) for each in theirs]

    monkeypatch.setattr(Original, "races", slowed)
    folder = tmp_path / "one"
    (folder / "out").mkdir(parents=True)
    found = surveying.run(SurveyOrder.model_validate(order(folder, **SURVEY)), folder, Channel(io.StringIO())).survey
    assert found is not None
    assert found.p50_ms < 20  # of a network that takes microseconds
    assert next(turns, None) is None


def test_coarser_values_cost_more_and_the_worst_comes_first(tmp_path: Path) -> None:
    first, again = (surveyed(tmp_path / name).sensitivity for name in ("one", "two"))
    assert first == again
    by_setting = {(each.tensor, each.setting): each.damage for each in first}
    assert {tensor for tensor, _ in by_setting} == {"w1", "w2"}
    for tensor in ("w1", "w2"):
        assert 0 < by_setting[tensor, "int8"] < by_setting[tensor, "ternary"] / 100
    assert [each.damage for each in first] == sorted((each.damage for each in first), reverse=True)


@pytest.mark.parametrize("task", ["match"])
def test_labels_are_not_needed(tmp_path: Path, task: str) -> None:
    found = surveyed(tmp_path / "one", task=task)
    assert found.quality is not None
    assert "agreement" in found.quality.scores
    assert found.sensitivity


def test_damage_is_relative_to_how_far_answers_lie_apart() -> None:
    before = {"y": np.array([[0.0, 2.0], [2.0, 0.0]])}
    assert damage(before, before) == 0
    assert damage(before, {"y": before["y"] + 0.5}) == pytest.approx(0.25)
    assert damage({"y": np.zeros((2, 2))}, {"y": np.ones((2, 2))}) == 1.0


def test_a_number_format_that_the_model_cannot_take_is_told_as_none(tmp_path: Path) -> None:
    low = {"steps": [{"technique": "quantize_int8", "exclude": ["no such node"]}]}
    assert surveyed(tmp_path / "one", low=low).low_faster is None


def test_a_network_that_cannot_be_narrowed_is_told_as_none(tmp_path: Path) -> None:
    narrow = {"steps": [{"technique": "prune_neurons", "kinds": ["heads"], "ratio": 0.75, "epochs": 0}]}
    found = surveyed(tmp_path / "one", narrow=narrow)
    assert found.narrow_faster is None
    assert found.low_faster is not None


def test_a_text_encoder_is_not_narrowed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    model = onnx.load(mlp(tmp_path / "in/model.onnx"))
    table = np.random.default_rng(0).normal(size=(17, 64)).astype(np.float32)  # one row for each shade of grey
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    looks_up = [
        helper.make_node("Cast", ["image"], ["shades"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["table", "shades"], ["embedded"]),
        helper.make_node("ReduceMean", ["embedded"], ["mean"], axes=[1], keepdims=0),
    ]
    model.graph.node[0].input[0] = "mean"
    for node in reversed(looks_up):
        model.graph.node.insert(0, node)
    onnx.save(model, tmp_path / "in/model.onnx")
    found = surveyed(tmp_path)
    assert (found.tables, found.neurons) == (1, 2)
    assert found.narrow_faster is None


def test_a_model_that_only_onnx_runtime_can_run_is_surveyed_without_its_tensors(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    model = onnx.load(mlp(tmp_path / "in/model.onnx"))
    centers = numpy_helper.from_array(np.random.default_rng(0).normal(size=(96, 64)).astype(np.float32), "centers")
    model.graph.initializer.append(centers)
    distances = helper.make_node("CDist", ["image", "centers"], ["inner"], domain="com.microsoft", metric="euclidean")
    model.graph.node[0].CopyFrom(distances)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, tmp_path / "in/model.onnx")
    found = surveyed(tmp_path)
    assert found.quality is not None
    assert found.sensitivity == []


def test_candidate_that_knows_what_the_original_answered_comes_to_the_same_file(tmp_path: Path) -> None:
    surveyed(tmp_path / "survey")
    (tmp_path / "knowing" / "in").mkdir(parents=True)
    (tmp_path / "survey" / "out" / LOGITS).rename(tmp_path / "knowing" / "in" / LOGITS)
    (tmp_path / "wrong" / "in").mkdir(parents=True)
    (tmp_path / "wrong" / "in" / LOGITS).write_bytes(b"something else")

    asking = compressed(tmp_path / "asking")
    assert compressed(tmp_path / "knowing", logits=f"in/{LOGITS}") == asking
    assert compressed(tmp_path / "wrong", logits=f"in/{LOGITS}") == asking
    said = Contents.open(tmp_path / "knowing" / "in" / LOGITS)
    (tmp_path / "misled" / "in").mkdir(parents=True)
    others = {name: array * 0 for name, array in said.arrays("").items()}
    write(tmp_path / "misled" / "in" / LOGITS, said.facts, others, {})
    assert compressed(tmp_path / "misled", logits=f"in/{LOGITS}") != asking


def test_candidate_is_measured_against_the_scores_that_the_survey_had_of_the_original(tmp_path: Path) -> None:
    surveyed(tmp_path / "survey")
    said = Contents.open(tmp_path / "survey" / "out" / LOGITS)
    arrays = dict(said.arrays(""))
    wrong = {name: array * 0 if "runtime" in name else array for name, array in arrays.items()}
    for name, told in (("knowing", arrays), ("misled", wrong)):
        (tmp_path / name / "in").mkdir(parents=True)
        write(tmp_path / name / "in" / LOGITS, said.facts, told, {})
    alone = report_of(tmp_path / "asking")
    knowing = report_of(tmp_path / "knowing", logits=f"in/{LOGITS}")
    misled = report_of(tmp_path / "misled", logits=f"in/{LOGITS}")
    assert (knowing.before.quality, knowing.after.quality) == (alone.before.quality, alone.after.quality)
    assert misled.before.quality != alone.before.quality


def report_of(scratch: Path, **changes: object) -> Report:
    """Bring the digits' network into int8."""
    recipe = {"steps": [{"technique": "quantize_int8"}]}
    report = done(scratch, kind="compress", recipe=recipe, guard=None, device="cpu", **changes).report
    assert report is not None
    return report


def compressed(scratch: Path, **changes: object) -> bytes:
    """Distil the digits' network for a moment and return the file."""
    recipe = {"steps": [{"technique": "distill", "epochs": 0.5}, {"technique": "ternarize", "epochs": 0.5}]}
    done(scratch, kind="compress", recipe=recipe, guard=None, device="cpu", **changes)
    return (scratch / "out/packed.onnx").read_bytes()


def residual(path: Path) -> Path:
    """Three residual layers on digits, the second of which adds next to nothing, and a head; untrained."""
    rng = np.random.default_rng(0)
    tensors, nodes, value = [], [], "image"
    for index, scale in enumerate((0.2, 1e-6, 0.1)):
        for name, shape in ((f"in{index}", (64, 32)), (f"out{index}", (32, 64))):
            tensors.append(numpy_helper.from_array(rng.normal(0, scale, shape).astype(np.float32), name))
        nodes += [
            helper.make_node("MatMul", [value, f"in{index}"], [f"wide{index}"]),
            helper.make_node("Relu", [f"wide{index}"], [f"active{index}"]),
            helper.make_node("MatMul", [f"active{index}", f"out{index}"], [f"added{index}"]),
            helper.make_node("Add", [value, f"added{index}"], [f"sum{index}"]),
        ]
        value = f"sum{index}"
    tensors.append(numpy_helper.from_array(rng.normal(0, 0.2, (64, 10)).astype(np.float32), "head"))
    nodes.append(helper.make_node("MatMul", [value, "head"], ["logits"]))
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", width])
        for name, width in (("image", 64), ("logits", 10))
    ]
    graph = helper.make_graph(nodes, "residual", ports[:1], ports[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_layers_are_told_from_the_least_harmful_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    residual(tmp_path / "in/model.onnx")

    found = surveyed(tmp_path)

    assert found.layers == 3
    assert found.removal[0] == 2
    assert len(found.removal) == 2
