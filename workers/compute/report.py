"""Turn measurements into changes, a verdict and reasons in words. Pure: opens no model, runs nothing."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from app.contracts.report import Change, Environment, Estimate, Latency, Measurement, StepReport
from workers.compute.environment import INT8_FLAGS
from workers.compute.metrics import LOWER_IS_BETTER

Verdict = Literal["better", "worse", "no measurable difference", "unchanged"]
_COUNTS = ("file_bytes", "zstd_bytes", "parameters", "nonzeros", "macs")
# Load time and resident memory are single measurements: below 10 % they say nothing.
_COARSE = ("resident_bytes", "load_ms")
_COARSE_SHARE = 0.1
# Two sessions of one file differ by up to 2 % of their medians, by where their memory happens to lie (measured).
_DRIFT = 0.02
_MANY_ZEROS = 0.3
_POINTS = frozenset({"accuracy", "macro_recall", "macro_f1", "micro_f1", "agreement"})


def changes(before: Measurement, after: Measurement, differences: Mapping[str, Estimate]) -> list[Change]:
    """Return every figure that both have, scores first. `differences` are after - before, paired by row."""
    found = [_score(name, before, after, estimate) for name, estimate in differences.items()]
    for figure in (*_COUNTS, *_COARSE):
        old, new = getattr(before, figure), getattr(after, figure)
        if old is not None and new is not None:
            slack = _COARSE_SHARE if figure in _COARSE else 0.0
            found.append(_count(figure, float(old), float(new), slack))
    slow = {latency.batch_size: latency for latency in before.latency}
    return found + [_speed(slow[fast.batch_size], fast) for fast in after.latency if fast.batch_size in slow]


def _score(name: str, before: Measurement, after: Measurement, difference: Estimate) -> Change:
    old = before.quality.scores[name].value if before.quality else 0.0
    new = after.quality.scores[name].value if after.quality else 0.0
    sign = -1 if name in LOWER_IS_BETTER else 1
    low, high = sorted((sign * difference.low, sign * difference.high))
    verdict: Verdict = "better" if low > 0 else "worse" if high < 0 else "no measurable difference"
    return Change(figure=name, before=old, after=new, difference=difference, verdict=verdict)


def _count(figure: str, old: float, new: float, slack: float) -> Change:
    verdict: Verdict = "better" if new < old else "worse"
    if abs(new - old) <= slack * old:
        verdict = "no measurable difference" if slack else "unchanged"
    return Change(figure=figure, before=old, after=new, ratio=old / new if new else None, verdict=verdict)


def _speed(slow: Latency, fast: Latency) -> Change:
    ratio = fast.ratio
    verdict: Verdict = "no measurable difference"
    if ratio is not None and abs(ratio.value - 1) >= _DRIFT and (ratio.low > 1 or ratio.high < 1):
        verdict = "better" if ratio.low > 1 else "worse"
    value = ratio.value if ratio is not None else slow.p50_ms / fast.p50_ms
    figure = f"p50_ms@{fast.batch_size}"
    return Change(figure=figure, before=slow.p50_ms, after=fast.p50_ms, ratio=value, verdict=verdict)


def verdict(found: Sequence[Change], after: Measurement) -> str:
    """Return one line for people: size, speed, quality, and how sure the last one is."""
    by_figure = {change.figure: change for change in found}
    parts = [_size_words(by_figure["file_bytes"])]
    parts += [_speed_words(change) for change in found if change.figure.startswith("p50_ms@")][:1]
    parts += [_score_words(change) for change in found if change.difference is not None][:1]
    agreement = after.quality.scores.get("agreement") if after.quality else None
    if agreement is not None and not any(change.difference for change in found):
        parts.append(f"agrees with the original on {agreement.value:.1%} of {agreement.samples:,} rows")
    line = ", ".join(parts)
    return line[0].upper() + line[1:] + "."


def _size_words(change: Change) -> str:
    if change.verdict == "unchanged" or change.ratio is None:
        return "the same size"
    return f"{change.ratio:.1f}× smaller" if change.ratio > 1 else f"{1 / change.ratio:.2f}× larger"


def _speed_words(change: Change) -> str:
    batch = change.figure.partition("@")[2]
    if change.ratio is None or change.verdict == "no measurable difference":
        return f"no measurable difference in speed at batch {batch}"
    faster = change.ratio > 1
    return f"{change.ratio if faster else 1 / change.ratio:.1f}× {'faster' if faster else 'slower'} at batch {batch}"


def _score_words(change: Change) -> str:
    difference = change.difference
    if difference is None:
        return ""
    name = change.figure.replace("_", " ")
    if change.figure in _POINTS:
        told = f"{name} {100 * difference.value:+.2f} points (to {change.after:.1%})"
    else:
        told = f"{name} {difference.value:+.4g} (to {change.after:.4g})"
    sure = "no measurable difference" if change.verdict == "no measurable difference" else change.verdict
    return f"{told}: {sure} on {difference.samples:,} rows"


def notes(
    found: Sequence[Change],
    after: Measurement,
    steps: Sequence[StepReport],
    operators: frozenset[str],
    place: Environment,
) -> list[str]:
    """Say why something is not smaller or faster, and which steps did nothing."""
    told = [f"Step {step.index + 1} ({step.technique}) changed nothing." for step in steps if not step.changed]
    told += [
        f"Step {step.index + 1} ({step.technique}) made the file larger: "
        f"{step.measurement.file_bytes:,} bytes after {last.measurement.file_bytes:,}."
        for last, step in pairwise(steps)
        if step.measurement.file_bytes > last.measurement.file_bytes
    ]
    by_figure = {change.figure: change for change in found}
    size = by_figure["file_bytes"]
    if size.verdict in {"worse", "unchanged"}:
        told.append(
            "The file is not smaller: no tensor has repeated, zero or few distinct values that could be packed."
        )
    speeds = [change for change in found if change.figure.startswith("p50_ms@")]
    if not any(change.verdict == "better" for change in speeds):
        told += _slow_reasons(after, operators, place, speeds)
    load = by_figure.get("load_ms")
    if load is not None and load.verdict == "worse":
        told.append(
            f"Loading takes {load.after:.0f} ms instead of {load.before:.0f} ms, "
            "because the weights are decoded or quantised graphs are prepared then."
        )
    return told


def _slow_reasons(
    after: Measurement, operators: frozenset[str], place: Environment, speeds: Sequence[Change]
) -> list[str]:
    told = []
    zeros = 1 - after.nonzeros / max(1, after.parameters)
    if zeros > _MANY_ZEROS:
        told.append(
            f"{zeros:.0%} of the weights are zero. They shrink the file, "
            "but ONNX Runtime multiplies by them all the same."
        )
    integer = sorted(
        name for name in operators if "Integer" in name or name.startswith(("QLinear", "Quantize", "Dynamic"))
    )
    if integer and not INT8_FLAGS & set(place.cpu_flags):
        told.append(
            "This processor has no int8 dot product (VNNI, AMX, i8mm), so integer arithmetic does not pay here."
        )
    elif integer and any(change.verdict == "worse" for change in speeds):
        told.append(
            "The layers are too small for integer arithmetic to pay: "
            "quantising their inputs at every call costs more than the products save."
        )
    if "ConvInteger" in operators:
        told.append("ConvInteger has no fast kernel in ONNX Runtime; static quantisation avoids it.")
    if not told and speeds:
        told.append(
            "It is not measurably faster: the graph runs the same operators on the same shapes; "
            "prune layers or neurons, or quantise to int8, to save time."
        )
    return told
