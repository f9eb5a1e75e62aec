"""What was measured of a candidate, held against the goal. Pure."""

from collections.abc import Sequence

from app.contracts.goal import Goal, MetricName
from app.contracts.job import TaskName
from app.contracts.report import Measurement, Quality, Report
from app.contracts.search import Figures, Point
from app.contracts.survey import Survey
from workers.planning.trying import Tried

_POINTS = frozenset({"accuracy", "macro_recall", "macro_f1", "agreement"})


def original(survey: Survey, metric: MetricName, tried: Sequence[Tried]) -> Figures:
    """Return the figures of the upload; its test score is known once a candidate was measured."""
    reports = [each.report for each in tried if each.report is not None]
    before = reports[0].before if reports else None
    return Figures(
        file_bytes=survey.file_bytes,
        p50_ms=survey.p50_ms,
        resident_bytes=survey.resident_bytes,
        validation=_score(survey.quality, metric),
        test=_score(before.quality if before else None, metric),
    )


def point(survey: Survey, goal: Goal, task: TaskName, tried: Tried) -> Point:
    """Return what a candidate came to."""
    known = Point(
        name=tried.candidate.name,
        round=tried.candidate.round,
        job=tried.job,
        artifact=tried.artifact,
        recipe=tried.candidate.recipe,
        predicted_p50_ms=tried.candidate.predicted_p50_ms,
        error=tried.error,
    )
    report = tried.report
    if report is None or tried.artifact is None:
        return known
    metric = goal.metric_of(task)
    latency = next((one for one in report.after.latency if one.batch_size == goal.batch_size), None)
    latency = latency or next(iter(report.after.latency), None)
    last = report.steps[-1].measurement.quality if report.steps else None
    figures = Figures(
        file_bytes=report.after.file_bytes,
        p50_ms=latency.p50_ms if latency else None,
        resident_bytes=report.after.resident_bytes,
        validation=_score(last, metric),
        test=_score(report.after.quality, metric),
    )
    measured = known.model_copy(
        update={
            "figures": figures,
            "smaller": report.before.file_bytes / report.after.file_bytes,
            "faster": latency.ratio.value if latency and latency.ratio else None,
            "validation_drop": _less(_score(survey.quality, metric), figures.validation),
            "test_drop": _test_drop(report, metric),
            "recall_drop": _recall_drop(survey.quality, last),
        }
    )
    return measured.model_copy(update={"misses": misses(goal, metric, measured)})


def misses(goal: Goal, metric: MetricName, found: Point) -> list[str]:
    """Return what of the goal a measured point does not meet, in words."""
    figures = found.figures
    if figures is None:
        return ["it was not measured"]
    said = [
        _over(found.validation_drop, goal.max_drop, metric, f"{metric} falls by"),
        _over(found.recall_drop, goal.max_recall_drop, metric, "the recall of one class falls by"),
        _over(figures.file_bytes, goal.max_size_bytes, "bytes", "the file has"),
        _over(figures.p50_ms, goal.max_p50_ms, "ms", "a call takes"),
        _over(figures.resident_bytes, goal.max_resident_bytes, "bytes", "loading adds"),
    ]
    return [each for each in said if each]


def cost(goal: Goal, found: Point) -> float:
    """Return what the goal minimizes, of a measured point: lower is better."""
    figures = found.figures
    if figures is None:
        return float("inf")
    if goal.minimize == "latency":
        return 1 / found.faster if found.faster else figures.p50_ms or float("inf")
    if goal.minimize == "memory":
        return float(figures.resident_bytes or figures.file_bytes)
    return float(figures.file_bytes)


def excess(goal: Goal, found: Point) -> float:
    """Return by how many times of what is allowed a point misses the goal, summed; 0 when it meets it."""
    return lost(goal, found) + oversized(goal, found)


def lost(goal: Goal, found: Point) -> float:
    """Return the part of `excess` that more training may give back."""
    recall = max(goal.max_recall_drop, 0.001) if goal.max_recall_drop is not None else None
    return _excess(found, [(found.validation_drop, max(goal.max_drop, 0.001)), (found.recall_drop, recall)])


def oversized(goal: Goal, found: Point) -> float:
    """Return the part of `excess` that no training changes: what the shape and the number format decide."""
    figures = found.figures or Figures(file_bytes=0)
    bounds = [
        (figures.file_bytes, goal.max_size_bytes),
        (figures.p50_ms, goal.max_p50_ms),
        (figures.resident_bytes, goal.max_resident_bytes),
    ]
    return _excess(found, bounds)


def _excess(found: Point, bounds: Sequence[tuple[float | None, float | None]]) -> float:
    if found.figures is None:
        return float("inf")
    return sum(max(0.0, value / limit - 1) for value, limit in bounds if value is not None and limit is not None)


def told(value: float, unit: str) -> str:
    """Write a figure as people do: shares in points, bytes with commas."""
    if unit in _POINTS:
        return f"{100 * value:.2f} points"
    return f"{value:,.0f} bytes" if unit == "bytes" else f"{value:.3g} {unit}".replace(" r2", "")


def _over(value: float | None, limit: float | None, unit: str, what: str) -> str:
    if value is None or limit is None or value <= limit:
        return ""
    return f"{what} {told(value, unit)}, {told(limit, unit)} are allowed"


def _score(quality: Quality | None, metric: MetricName) -> float | None:
    found = quality.scores.get(metric) if quality else None
    return found.value if found else None


def _test_drop(report: Report, metric: MetricName) -> float | None:
    def score(measured: Measurement) -> float | None:
        return _score(measured.quality, metric)

    return _less(score(report.before), score(report.after))


def _less(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after


def _recall_drop(before: Quality | None, after: Quality | None) -> float | None:
    if before is None or after is None or not after.recall_per_class:
        return None
    old, new = before.recall_per_class, after.recall_per_class
    return max(old[name].value - new[name].value for name in new if name in old)
