"""Turn measurements into changes and a verdict in words. Pure: opens no model, runs nothing."""

from collections.abc import Mapping, Sequence
from typing import Literal

from app.contracts.report import Change, Estimate, Latency, Measurement
from workers.compute.metrics import LOWER_IS_BETTER

Verdict = Literal["better", "worse", "no measurable difference", "unchanged"]
_COUNTS = ("file_bytes", "zstd_bytes", "parameters", "nonzeros", "macs", "peak_activation_bytes")
# A count is unchanged within 0.5 %, where its ratio reads 1.00×: a name more or less in the file is no result.
_COUNT_SHARE = 0.005
# Load time is the median of three loads, memory one reading: below a tenth they say nothing. Of a 30 kB file, loaded
# 40 times over, the time went from 0.7 to 4.5 ms and the memory from 0 to 10 MB, hence the least that counts.
_COARSE_SHARE = 0.1
_COARSE_LEAST = {"load_ms": 5.0, "resident_bytes": 10e6}
# A guard against what the interval of one race cannot see: where each session's memory happens to lie. Two sessions of
# one file, raced for 1 s in 144 pairs (30 kB and 17 MB, 1 and 2 threads, batch 1 and 8), were up to 2.6 % apart, and
# half of the intervals left 1 out; 10 of the pairs, while other work kept both cores busy, were up to 21 % apart.
_DRIFT = 0.03
_POINTS = frozenset({"accuracy", "macro_recall", "macro_f1", "micro_f1", "agreement"})
_FINE = 2  # below twice, a ratio needs its second decimal


def changes(before: Measurement, after: Measurement, differences: Mapping[str, Estimate]) -> list[Change]:
    """Return every figure that both have, scores first. `differences` are after - before, paired by row."""
    found = [_score(name, before, after, estimate) for name, estimate in differences.items()]
    for figure in (*_COUNTS, *_COARSE_LEAST):
        old, new = getattr(before, figure), getattr(after, figure)
        if old is not None and new is not None:
            found.append(_coarse(figure, old, new) if figure in _COARSE_LEAST else _count(figure, old, new))
    slow = {latency.batch_size: latency for latency in before.latency}
    return found + [_speed(slow[fast.batch_size], fast) for fast in after.latency if fast.batch_size in slow]


def _score(name: str, before: Measurement, after: Measurement, difference: Estimate) -> Change:
    old = before.quality.scores[name].value if before.quality else 0.0
    new = after.quality.scores[name].value if after.quality else 0.0
    sign = -1 if name in LOWER_IS_BETTER else 1
    low, high = sorted((sign * difference.low, sign * difference.high))
    verdict: Verdict = "better" if low > 0 else "worse" if high < 0 else "no measurable difference"
    return Change(figure=name, before=old, after=new, difference=difference, verdict=verdict)


def _count(figure: str, old: float, new: float) -> Change:
    verdict: Verdict = "better" if new < old else "worse"
    if abs(new - old) <= _COUNT_SHARE * old:
        verdict = "unchanged"
    return Change(figure=figure, before=old, after=new, ratio=_ratio(old, new), verdict=verdict)


def _coarse(figure: str, old: float, new: float) -> Change:
    verdict: Verdict = "better" if new < old else "worse"
    if abs(new - old) <= max(_COARSE_SHARE * old, _COARSE_LEAST[figure]):
        verdict = "no measurable difference"
    return Change(figure=figure, before=old, after=new, ratio=_ratio(old, new), verdict=verdict)


def _ratio(old: float, new: float) -> float | None:
    return old / new if old and new else None


def _speed(slow: Latency, fast: Latency) -> Change:
    ratio = fast.ratio
    verdict: Verdict = "no measurable difference"
    if ratio is not None and abs(ratio.value - 1) >= _DRIFT and (ratio.low > 1 or ratio.high < 1):
        verdict = "better" if ratio.low > 1 else "worse"
    return Change(
        figure=f"p50_ms@{fast.batch_size}",
        before=slow.p50_ms,
        after=fast.p50_ms,
        ratio=ratio.value if ratio is not None else slow.p50_ms / fast.p50_ms,
        ratio_interval=ratio,
        verdict=verdict,
    )


def verdict(found: Sequence[Change], after: Measurement) -> str:
    """Return one line for people: size, speed, quality, how sure the last one is, and what else changed otherwise."""
    speeds = [change for change in found if change.figure.startswith("p50_ms@")]
    scores = [change for change in found if change.difference is not None]
    rows = f"{after.quality.split} rows" if after.quality else "rows"
    parts = [_size_words(next(change for change in found if change.figure == "file_bytes"))]
    parts += [_speed_words(change) for change in _told(speeds)]
    parts += [_score_words(change, rows) for change in _told(scores)]
    agreement = after.quality.scores.get("agreement") if after.quality else None
    if agreement is not None and not scores:
        parts.append(f"{_agreement_words(agreement)} on {agreement.samples:,} {rows}")
    line = ", ".join(parts)
    return line[0].upper() + line[1:] + "."


def _told(found: Sequence[Change]) -> list[Change]:
    """Return the first change, and the others that are measurable and say something else."""
    return [
        change
        for place, change in enumerate(found)
        if place == 0 or (change.verdict in {"better", "worse"} and change.verdict != found[0].verdict)
    ]


def times(ratio: float) -> str:
    """Write a ratio of 1 or more: 1.04×, 12.3×."""
    return f"{ratio:.2f}×" if ratio < _FINE else f"{ratio:.1f}×"


def _size_words(change: Change) -> str:
    if change.verdict == "unchanged" or change.ratio is None:
        return "the same size"
    return f"{times(change.ratio)} smaller" if change.ratio > 1 else f"{times(1 / change.ratio)} larger"


def _speed_words(change: Change) -> str:
    batch = change.figure.partition("@")[2]
    if change.ratio is None or change.verdict == "no measurable difference":
        return f"no measurable difference in speed at batch {batch}"
    faster = change.ratio > 1
    return f"{times(change.ratio if faster else 1 / change.ratio)} {'faster' if faster else 'slower'} at batch {batch}"


def _score_words(change: Change, rows: str) -> str:
    difference = change.difference
    if difference is None:
        return ""
    points = change.figure in _POINTS
    low, value, high = (_signed(part, points=points) for part in (difference.low, difference.value, difference.high))
    name = change.figure.replace("_", " ")
    told = f"{name} {value} points (to {change.after:.1%})" if points else f"{name} {value} (to {change.after:.4g})"
    return f"{told}: {change.verdict} on {difference.samples:,} {rows} (95 % interval {low} to {high})"


def _signed(value: float, *, points: bool) -> str:
    told = f"{100 * value:+.2f}" if points else f"{value:+.4g}"
    return told.replace("-", "−")


def _agreement_words(agreement: Estimate) -> str:
    return f"agreement with the original {agreement.value:.1%}"
