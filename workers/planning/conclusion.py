"""What a search found: the points, the Pareto front, the one recommended and why."""

from collections.abc import Sequence
from typing import Literal

from app.contracts.causes import GuardCauses
from app.contracts.goal import Goal, MetricName
from app.contracts.job import TaskName
from app.contracts.report import Report
from app.contracts.search import Figures, Point, Search
from app.contracts.survey import Survey
from workers.planning.judging import cost, excess, original, point, told
from workers.planning.trying import Tried

_SAME_COST = 1.1  # medians of two runs differ by so much; within it, the smaller file is the better one
_SAME_SIZE = 1.01  # nobody chooses by less; within it, what loses less is the better one
_NEAREST = 3
_SUPERLATIVES = {"size": "smallest", "latency": "fastest", "memory": "lightest"}


def conclude(
    survey: Survey, goal: Goal, task: TaskName, tried: Sequence[Tried], ended_by: Literal["plan", "budget"]
) -> Search:
    """Return the outcome of a search over what was tried."""
    metric = goal.metric_of(task)
    points = [point(survey, goal, task, each) for each in tried]
    meeting = sorted((each for each in points if each.meets), key=lambda each: (cost(goal, each), *_rank(each)))
    measured = [each for each in points if each.figures is not None]
    nearest = sorted(measured, key=lambda each: (excess(goal, each), cost(goal, each), each.name))[:_NEAREST]
    best = _best(goal, meeting)
    if best is not None:
        why = _reason(goal, metric, best, measured)
    else:
        closest = next((each for each in tried if nearest and each.job == nearest[0].job), None)
        why = _shortfall(survey, goal, metric, nearest, closest.report if closest else None)
    return Search(
        goal=goal,
        metric=metric,
        original=original(survey, metric, tried),
        points=points,
        front=[each.job for each in front(measured)],
        recommended=best.job if best else None,
        why=why,
        nearest=[] if best else [each.job for each in nearest],
        ended_by=ended_by,
    )


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other one beats in size, latency and metric alike, smallest file first.

    Two times within a tenth are the same, or two runs of one search would end with different fronts.
    """
    kept = [each for each in points if not any(_dominates(other, each) for other in points)]
    return sorted(kept, key=lambda each: (each.figures.file_bytes if each.figures else 0, each.name, each.round))


def _dominates(one: Point, other: Point) -> bool:
    """Whether `one` is no worse in anything and better in something; times within the noise are the same."""
    (mine, my_time), (theirs, their_time) = _exact(one), _exact(other)
    faster, slower = my_time * _SAME_COST < their_time, my_time > _SAME_COST * their_time
    return not slower and all(a <= b for a, b in zip(mine, theirs, strict=True)) and (faster or mine != theirs)


def _exact(found: Point) -> tuple[tuple[float, float], float]:
    """Return bytes and metric, which are the same in every run, and the time, which is not; lower is better."""
    figures = found.figures or Figures(file_bytes=0)
    slow = 1 / found.faster if found.faster else float("inf")
    return (float(figures.file_bytes), -(figures.validation if figures.validation is not None else 0.0)), slow


def _best(goal: Goal, meeting: Sequence[Point]) -> Point | None:
    """Return the one to recommend; neither a few bytes nor timing noise decide between two that are as good."""
    if not meeting:
        return None
    least = cost(goal, meeting[0])
    if goal.minimize == "size":
        return min((each for each in meeting if cost(goal, each) <= _SAME_SIZE * least), key=_rank)
    equal = [each for each in meeting if cost(goal, each) <= _SAME_COST * least]
    return min(equal, key=lambda each: (each.figures.file_bytes if each.figures else 0, *_rank(each)))


def _rank(found: Point) -> tuple[float, int, str]:
    """Order what costs the same: what loses least first, then what trained longest."""
    return (found.validation_drop or 0.0, -found.round, found.name)


def _reason(goal: Goal, metric: MetricName, best: Point, measured: Sequence[Point]) -> str:
    superlative = _SUPERLATIVES[goal.minimize]
    meeting = sum(each.meets for each in measured)
    noun = "candidate" if meeting == 1 else "candidates"
    facts = [f"{best.smaller:.1f} times smaller" if best.smaller else "", _speed(best), _change(best, metric)]
    said = ", ".join(filter(None, facts))
    first = f"“{best.name}” is the {superlative} of {meeting} {noun} that meet the goal: {said}."
    missing = [each for each in measured if not each.meets and each.name != best.name]  # its own shorter training apart
    bolder = [each for each in missing if cost(goal, each) < cost(goal, best)]
    if bolder:
        next_one = max(bolder, key=lambda each: cost(goal, each))
        return f"{first} “{next_one.name}” would go further, but {'; '.join(next_one.misses)}."
    return f"{first} No other that was measured goes further."


def _shortfall(survey: Survey, goal: Goal, metric: MetricName, nearest: Sequence[Point], report: Report | None) -> str:
    """Say what keeps the goal from being met, by class and layer where `report` tells, and what would be needed."""
    if not nearest:
        return "No candidate could be measured, so nothing can be recommended. Their errors say why."
    closest = nearest[0]
    needed = []
    if closest.validation_drop is not None and closest.validation_drop > goal.max_drop:
        needed.append(f"a drop of {told(closest.validation_drop, metric)}")
    if goal.max_size_bytes is not None and closest.figures and closest.figures.file_bytes > goal.max_size_bytes:
        needed.append(f"{closest.figures.file_bytes:,} bytes")
    if goal.max_p50_ms is not None and closest.figures and (closest.figures.p50_ms or 0) > goal.max_p50_ms:
        needed.append(f"{closest.figures.p50_ms:.3g} ms a call")
    causes = report.guard_causes if report else None
    hint = _causes(causes, metric) if causes else ""
    if not hint and survey.sensitivity:
        hint = f" Most sensitive is {survey.sensitivity[0].tensor} ({survey.sensitivity[0].operator})."
    allow = f" To take it, allow {' and '.join(needed)}." if needed else ""
    return f"Nothing meets the goal; “{closest.name}” comes closest, but {'; '.join(closest.misses)}.{allow}{hint}"


def _causes(found: GuardCauses, metric: MetricName) -> str:
    """Name the class that lost most and the layer that gives most back, where there are such."""
    said = ""
    if found.classes:
        lost = found.classes[0]
        said += f" Most is lost in class {lost.name}, whose recall falls from {lost.before:.1%} to {lost.after:.1%}."
    layer = max(found.layers, key=lambda each: each.gain, default=None)
    if layer is not None and layer.gain > 0:
        said += f" Of the layers, {layer.tensor} costs most: as it was, it would give back {told(layer.gain, metric)}."
    return said


def _speed(found: Point) -> str:
    return f"{found.faster:.1f} times as fast" if found.faster else ""


def _change(found: Point, metric: MetricName) -> str:
    if found.validation_drop is None:
        return ""
    way = "lower" if found.validation_drop > 0 else "higher"
    if not found.validation_drop:
        return f"{metric} unchanged on validation rows"
    return f"{metric} {told(abs(found.validation_drop), metric)} {way} on validation rows"
