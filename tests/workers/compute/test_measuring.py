"""Timing, feeding, evaluating, and the words of the report."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.contracts.model import TensorSpec
from app.contracts.report import CurvePoint, Latency
from app.contracts.tasks import MESSAGE, CompressOrder, Progress
from tests.workers.compute.orders import compress, digits, digits_npz, mlp
from workers.compute import measuring, pipeline
from workers.compute.channel import Channel
from workers.compute.datasets.samples import Samples
from workers.compute.evaluation import predict
from workers.compute.feeds import feeds_for, free_sizes
from workers.compute.measuring import Original, Races, open_original, quieter
from workers.compute.memory import loading
from workers.compute.runtime import SessionOptions, open_session
from workers.compute.signature import Signature, signature_of
from workers.compute.stages import Route, Stage
from workers.compute.timing import Racer, Setting, race


def spec(name: str, dtype: str, *shape: int | str | None) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=list(shape))


def session_of(
    path: Path, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> ort.InferenceSession:
    table = numpy_helper.from_array(np.arange(20, dtype=np.float32).reshape(10, 2), "table")
    graph = helper.make_graph(nodes, "g", inputs, outputs, [table])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return open_session(path, SessionOptions(1))


def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def summing(path: Path) -> ort.InferenceSession:
    """Sums the embeddings of all tokens, masked or not, and also tells how long the batch was."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("ReduceMean", ["vectors"], ["scores"], axes=[1], keepdims=0),
        helper.make_node("Identity", ["attention_mask"], ["seen"]),
    ]
    inputs = [value("input_ids", TensorProto.INT64, "b", "s"), value("attention_mask", TensorProto.INT64, "b", "s")]
    outputs = [value("seen", TensorProto.INT64, "b", "s"), value("scores", TensorProto.FLOAT, "b", 2)]
    return session_of(path, nodes, inputs, outputs)


def test_text_is_cut_to_the_longest_row_when_the_mask_allows_it(tmp_path: Path) -> None:
    ids = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    scores = predict(
        summing(tmp_path / "m.onnx"), Samples({"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)})
    )
    assert scores[0, 0] == 2  # the mean of two tokens, not of five


def test_scores_are_the_first_floating_matrix_when_labels_come_first(tmp_path: Path) -> None:
    signature = signature_of(summing(tmp_path / "m.onnx"))
    assert signature.scores.name == "scores"
    assert signature.width == 2


def test_last_batch_is_filled_up_when_the_batch_axis_is_fixed(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "table"], ["y"])]
    session = session_of(tmp_path / "m.onnx", nodes, [value("x", 1, 4, 10)], [value("y", 1, 4, 2)])
    rows = np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32)
    scores = predict(session, Samples({"x": rows}))
    assert signature_of(session).fixed_batch == 4
    assert np.allclose(scores, rows @ np.arange(20).reshape(10, 2), atol=1e-4)


def test_made_up_rows_are_valid_for_every_kind_of_input() -> None:
    inputs = (
        spec("ids", "int64", "b", "s"),
        spec("attention_mask", "int32", "b", "s"),
        spec("image", "float", "b", None, "h", 8),
    )
    (feed, *_) = feeds_for(Signature(inputs, (), inputs[0]), 2, None)
    assert feed["ids"].shape == (2, 64)
    assert feed["ids"].max() <= 1
    assert feed["attention_mask"].min() == 1
    assert feed["image"].shape == (2, 3, 224, 8)
    assert free_sizes(inputs, None) == {"s": 64, "image.1": 3, "h": 224}


def test_slower_model_loses_the_race(tmp_path: Path) -> None:
    session = open_session(mlp(tmp_path / "m.onnx"), SessionOptions(1))
    images, _ = digits()
    small, large = [{"image": images[:1]}], [{"image": np.tile(images, (4, 1))}]
    fast, slow = race(Racer(session, small), Racer(session, large), Setting(1, 1), 0.1)
    assert fast.ratio is not None
    assert fast.ratio.low > 2
    assert slow.p50_ms > fast.p50_ms
    assert fast.p50_ms <= fast.p95_ms <= fast.p99_ms


def test_calls_that_another_process_disturbed_are_left_out(tmp_path: Path) -> None:
    session = open_session(mlp(tmp_path / "m.onnx"), SessionOptions(1))
    feed = [{"image": digits()[0]}]
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # of the thread that calls; what it starts inherits it
    rival = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        ours, theirs = race(Racer(session, feed), Racer(session, feed), Setting(1, 1), 1.0)
    finally:
        rival.kill()
        rival.wait()
        os.sched_setaffinity(0, allowed)
    assert 0 < ours.disturbed < 1
    assert ours.disturbed == theirs.disturbed
    assert ours.ratio is not None
    assert ours.ratio.value == pytest.approx(1, abs=0.3)
    assert ours.p99_ms < 4 * ours.p50_ms  # a call that lost its core to the rival takes at least a time slice more


def test_sessions_that_have_answered_before_are_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = open_original(mlp(tmp_path / "model.onnx"), threads=1)
    opened: list[Path] = []

    def noted(path: Path, options: SessionOptions) -> ort.InferenceSession:
        opened.append(path)
        return open_session(path, options)

    monkeypatch.setattr(measuring, "open_session", noted)
    for _ in range(2):
        ours, theirs = original.races(original.path, None, 0.01, 0)
        assert [each.batch_size for each in ours] == [each.batch_size for each in theirs]

    assert opened == [original.path] * 4


def test_of_two_races_the_one_in_which_the_original_was_faster_counts_at_each_batch_size() -> None:
    def timed(*milliseconds: float) -> list[Latency]:
        known = {"threads": 1, "calls": 9, "p95_ms": 9.0, "p99_ms": 9.0, "throughput_per_s": 1.0}
        sizes = zip((1, 8), milliseconds, strict=False)
        return [Latency.model_validate(known | {"batch_size": size, "p50_ms": ms}) for size, ms in sizes]

    early, late = (timed(1.0, 5.0), timed(3.0, 9.0)), (timed(0.5, 7.0), timed(4.0, 8.0))
    assert quieter(early, late) == (timed(1.0, 7.0), timed(3.0, 8.0))
    assert quieter((timed(1.0), timed(3.0)), (timed(2.0), timed(2.0))) == (timed(2.0), timed(2.0))


def test_a_busy_moment_at_the_end_of_a_job_does_not_make_its_result_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    races, seen = Original.races, []

    def slowed(self: Original, *given: Any) -> Races:
        seen.append(races(self, *given))
        by = 1000.0 if len(seen) == busy else 1.0
        ours, theirs = ([each.model_copy(update={"p50_ms": each.p50_ms * by}) for each in side] for side in seen[-1])
        return ours, theirs

    monkeypatch.setattr(Original, "races", slowed)
    for busy in (2, 3):  # the first race is the step's
        seen.clear()
        folder = tmp_path / str(busy)
        (folder / "out").mkdir(parents=True)
        mlp(folder / "model.onnx")
        digits_npz(folder / "digits.npz")
        order = CompressOrder.model_validate(compress(recipe={"steps": [], "pack": {}}))
        report = pipeline.run(order, folder, Channel(io.StringIO())).report
        assert report is not None
        assert (report.after.latency, report.before.latency) == seen[4 - busy]
        assert len(seen) == 3


def test_loading_tells_time_and_memory(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones((2048, 2048), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [value("x", 1, "b", 2048)],
        [value("y", 1, "b", 2048)],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "m.onnx")
    load_ms, resident = loading(tmp_path / "m.onnx", SessionOptions(1))
    assert load_ms > 0
    assert resident is None or 12e6 < resident < 60e6  # 16.8 MB of weights


def test_progress_never_goes_back_and_foretells_the_end() -> None:
    stream = io.StringIO()
    route = Route(Channel(stream), [Stage("one", 1), Stage("two", 3)])
    route.enter()
    route.tell(0.5, CurvePoint(step=1, epoch=0.1, loss=2.0))
    route.enter()
    said = [MESSAGE.validate_json(line) for line in stream.getvalue().splitlines()]
    assert [message.progress for message in said if isinstance(message, Progress)] == [0.0, 0.125, 0.25]
    assert isinstance(said[-1], Progress)
    assert said[-1].eta_s is not None
