"""What the report says: verdicts, tolerances and the reasons in words."""

from collections import Counter
from dataclasses import replace

import pytest

from app.contracts.benchmark import OperatorTime
from app.contracts.report import Change, Environment, Estimate, Latency, Measurement, TensorReport
from workers.compute import report
from workers.compute.reasons import Facts, notes
from workers.compute.tracing import Fallback

PLAIN, VNNI = ["avx2"], ["avx2", "avx512_vnni"]


def ratio(value: float, spread: float = 0.01) -> Estimate:
    return Estimate(value=value, low=value - spread, high=value + spread, samples=100)


def measurement(size: int, ms: float, ratio: Estimate | None = None, **changes: object) -> Measurement:
    latency = Latency(
        batch_size=1, threads=1, calls=100, p50_ms=ms, p95_ms=ms, p99_ms=ms, throughput_per_s=1, ratio=ratio
    )
    base: dict[str, object] = {
        "parameters": 100,
        "nonzeros": 100,
        "file_bytes": size,
        "zstd_bytes": size,
        "latency": [latency],
    }
    return Measurement.model_validate(base | changes)


def figure(name: str, before: Measurement, after: Measurement) -> Change:
    return next(change for change in report.changes(before, after, {}) if change.figure == name)


def tensor(encoding: str) -> TensorReport:
    return TensorReport(
        name="w",
        operator="MatMul",
        shape=[32, 32],
        parameters=1024,
        nonzeros=1024,
        unique_values=16,
        encoding=encoding,
        bits_per_weight=8,
        entropy_bits_per_weight=4,
        dense_bytes=4096,
        packed_bytes=1024,
    )


def facts(before: Measurement, after: Measurement, *operators: str, flags: list[str] = PLAIN) -> Facts:
    place = Environment(python="3", versions={}, cpu="a processor", cpu_flags=flags, threads=1, device="cpu")
    return Facts(report.changes(before, after, {}), after, [], [], Counter(operators), place)


def told(found: Facts) -> str:
    return " ".join(notes(found))


def test_verdict_says_what_changed_and_how_sure_it_is() -> None:
    before, after = measurement(1000, 4.0), measurement(200, 1.0, ratio(4.0, 0.1))
    found = report.changes(before, after, {})
    assert report.verdict(found, after) == "5.0× smaller, 4.0× faster at batch 1."


def test_verdict_names_split_rows_and_interval_when_quality_was_measured() -> None:
    quality = {"split": "test", "samples": 359, "scores": {"accuracy": ratio(0.95)}}
    after = measurement(500, 1.0, ratio(1.0), quality=quality)
    difference = Estimate(value=-0.01, low=-0.03, high=0.01, samples=359)
    found = report.changes(measurement(1000, 1.0, quality=quality), after, {"accuracy": difference})
    assert report.verdict(found, after) == (
        "2.0× smaller, no measurable difference in speed at batch 1, accuracy −1.00 points (to 95.0%): "
        "no measurable difference on 359 test rows (95 % interval −3.00 to +1.00)."
    )


def test_verdict_does_not_hide_the_batch_that_got_slower() -> None:
    before, after = measurement(1000, 2.0), measurement(1000, 1.0, ratio(2.0))
    slow = before.latency[0].model_copy(update={"batch_size": 8})
    before.latency.append(slow)
    after.latency.append(slow.model_copy(update={"ratio": ratio(0.5)}))
    found = report.changes(before, after, {})
    assert report.verdict(found, after) == "The same size, 2.0× faster at batch 1, 2.0× slower at batch 8."


def test_verdict_does_not_hide_the_score_that_got_worse() -> None:
    quality = {"split": "test", "samples": 100, "scores": {"accuracy": ratio(0.9), "macro_recall": ratio(0.7)}}
    before = measurement(1000, 1.0, quality=quality)
    worse = Estimate(value=-0.2, low=-0.3, high=-0.1, samples=100)
    found = report.changes(before, before, {"accuracy": ratio(0, 0.02), "macro_recall": worse})
    assert "macro recall −20.00 points (to 70.0%): worse on 100 test rows" in report.verdict(found, before)


def test_speed_is_no_difference_when_the_interval_holds_one() -> None:
    before, after = measurement(1000, 1.05), measurement(1000, 1.0, ratio(1.05, 0.07))
    found = report.changes(before, after, {})
    assert report.verdict(found, after) == "The same size, no measurable difference in speed at batch 1."


def test_latency_carries_the_interval_of_its_ratio() -> None:
    found = figure("p50_ms@1", measurement(1000, 2.0), measurement(1000, 1.0, ratio(2.0)))
    assert found.ratio_interval == ratio(2.0)


@pytest.mark.parametrize(
    ("size", "verdict"), [(30_100, "unchanged"), (29_900, "unchanged"), (30_400, "worse"), (29_500, "better")]
)
def test_file_is_unchanged_when_a_few_bytes_came_or_went(size: int, verdict: str) -> None:
    assert figure("file_bytes", measurement(30_000, 1), measurement(size, 1)).verdict == verdict


@pytest.mark.parametrize(("load_ms", "verdict"), [(4.0, "no measurable difference"), (20.0, "worse")])
def test_load_time_says_nothing_when_the_difference_is_a_few_milliseconds(load_ms: float, verdict: str) -> None:
    before, after = measurement(1000, 1, load_ms=2.0), measurement(1000, 1, load_ms=load_ms)
    assert figure("load_ms", before, after).verdict == verdict


def test_ratio_is_unknown_when_loading_added_no_memory() -> None:
    before, after = measurement(1000, 1, resident_bytes=0), measurement(1000, 1, resident_bytes=4096)
    found = figure("resident_bytes", before, after)
    assert (found.ratio, found.verdict) == (None, "no measurable difference")


@pytest.mark.parametrize(("after", "told"), [(0.5, "worse"), (0.05, "no measurable difference")])
def test_error_is_worse_when_it_grows_measurably(after: float, told: str) -> None:
    quality = {"split": "test", "samples": 10, "scores": {"mae": {"value": after, "low": 0, "high": 1, "samples": 10}}}
    before = measurement(1, 1, quality=quality)
    difference = Estimate(value=after, low=after - 0.1, high=after + 0.1, samples=10)
    found = report.changes(before, before, {"mae": difference})
    assert found[0].verdict == told


def test_zeros_are_named_as_the_reason_when_nothing_is_faster() -> None:
    after = measurement(500, 1.0, ratio(1.0), nonzeros=20)
    assert "80% of the weights are zero. They shrink the file, but" in told(facts(measurement(1000, 1), after))


def test_decoding_is_blamed_for_the_load_time_only_when_something_was_packed() -> None:
    slow = facts(measurement(1000, 1, load_ms=2.0), measurement(500, 1, ratio(2.0), load_ms=40.0))
    packed = replace(slow, tensors=[tensor("codebook")])
    assert told(slow) == "Loading takes 40 ms instead of 2 ms."
    assert "40 ms instead of 2 ms: 1 packed tensors are decoded then." in told(packed)


@pytest.mark.parametrize(
    ("encodings", "why"), [([], "so small"), (["dense"], "no tensor has"), (["codebook"], "packing saved 3,072 bytes")]
)
def test_reason_fits_when_the_file_is_not_smaller(encodings: list[str], why: str) -> None:
    found = facts(measurement(1000, 1), measurement(1100, 1, ratio(2.0)))
    assert why in told(replace(found, tensors=[tensor(name) for name in encodings]))


def test_missing_int8_instructions_are_named_when_int8_is_not_faster() -> None:
    said = told(facts(measurement(1000, 1), measurement(300, 2, ratio(0.5)), "MatMulInteger", "Conv"))
    assert "this processor has no int8 dot product" in said
    assert "(its flags: avx2)" in said
    assert "without VNNI (as on this one)" in said


def test_time_spent_converting_is_named_when_the_processor_has_int8_instructions() -> None:
    found = facts(measurement(1000, 1), measurement(300, 2, ratio(0.5), macs=6144), "MatMulInteger", flags=VNNI)
    spent = OperatorTime(operator="DynamicQuantizeLinear", provider="cpu", calls=1, share=0.6, microseconds=3)
    said = told(replace(found, profile=[spent]))
    assert "with 6,144 multiply-accumulates a row, changing types costs as much as integer products save" in said
    assert "Of the time in operators most goes to DynamicQuantizeLinear (60%)." in said


def test_int8_needs_no_excuse_when_it_is_faster() -> None:
    found = facts(measurement(1000, 1), measurement(300, 0.5, ratio(2.0)), "MatMulInteger", flags=VNNI)
    assert "not faster" not in told(found)


LEFT = Fallback(2, 9, "layers", 0.31, ("stem", "head"), frozenset({"Conv", "MatMul"}))


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_layers_that_int8_left_alone_are_named_whether_it_is_faster_or_not(speed: float) -> None:
    found = facts(measurement(1000, 1), measurement(300, 1 / speed, ratio(speed)), "MatMulInteger")
    assert (
        "2 of 9 layers still calculate in floating point (31% of the time in operators): stem, head. "
        "Static mode makes convolutions integer."
    ) in told(replace(found, fallback=LEFT))


def test_layers_in_floating_point_are_no_news_when_nothing_is_integer() -> None:
    found = facts(measurement(1000, 1), measurement(300, 1, ratio(1.0)), "MatMul")
    assert "floating point" not in told(replace(found, fallback=LEFT))


@pytest.mark.parametrize(("operator", "mode"), [("QuantizeLinear", "Conv"), ("MatMulInteger", "MatMul")])
def test_static_mode_is_advised_only_for_convolutions_that_are_not_static(operator: str, mode: str) -> None:
    found = facts(measurement(1000, 1), measurement(300, 2, ratio(0.5)), operator)
    said = told(replace(found, fallback=replace(LEFT, operators=frozenset({mode}))))
    assert "still calculate" in said
    assert "Static mode" not in said


def test_fewer_operations_are_admitted_when_they_did_not_help() -> None:
    before, after = measurement(1000, 0.02, macs=1000), measurement(500, 0.02, ratio(1.0), macs=400)
    assert "A row takes 2.5× fewer multiply-accumulates, yet it is not measurably faster" in told(facts(before, after))


@pytest.mark.parametrize(("share", "said"), [(0.0, False), (0.3, True)])
def test_a_busy_machine_is_named_when_it_disturbed_many_calls(share: float, said: bool) -> None:
    after = measurement(50, 2.0, ratio(2.0))
    disturbed = after.model_copy(update={"latency": [after.latency[0].model_copy(update={"disturbed": share})]})
    assert ("30% of the timed calls" in told(facts(measurement(100, 4.0), disturbed))) == said
