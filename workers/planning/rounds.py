"""The rounds of a search by successive halving (Jamieson & Talwalkar, 2016, arXiv 1502.07943).

First every rung of the ladder for a short time, then the most promising two for the full time. What would be better
than the best of those that meet the goal, and misses it by little, is then trained for longer than before, until each
such rung had twice the full time. Longer training only helps, so a rung that meets the goal early meets it later.
"""

from collections.abc import Mapping, Sequence
from statistics import median

from app.contracts.goal import Goal
from app.contracts.job import TaskName
from app.contracts.search import Point
from app.contracts.survey import Survey
from workers.planning.effort import SHORT, affordable, epochs, worthwhile
from workers.planning.judging import cost, excess, lost, oversized, point
from workers.planning.ladder import Rung, narrowest, rungs
from workers.planning.trying import Candidate, Tried

_AT_ONCE = 2
_LENGTHS = (SHORT, 1.0, 2.0)  # of a rung's first training, of its second and of its last
# What a short training has lost beyond the goal may come back in a long one: up to so many times what is allowed, or so
# much of the metric.
_RECOVERED_TIMES, _RECOVERED = 2.0, 0.01
# What is left of the budget after that may go to what has lost more, up to so much beyond what is allowed.
_FAR = 0.05


def next_round(survey: Survey, goal: Goal, task: TaskName, tried: Sequence[Tried]) -> list[Candidate]:
    """Return what to run next, all side by side; nothing when the search is over."""
    ladder = _chosen(rungs(survey, goal, task), survey, goal)
    if not tried:
        return [_candidate(survey, goal, rung, SHORT, 0, {}) for rung in ladder]
    by_name = {rung.name: rung for rung in ladder if rung.trained}
    points = [point(survey, goal, task, each) for each in tried]
    latest = {each.name: each for each in sorted(points, key=lambda each: each.round) if each.name in by_name}
    turn = 1 + max(each.round for each in points)
    names = _finalists(goal, list(latest.values())) if turn == 1 else _better(goal, points, list(latest.values()))
    lengths = {name: _LENGTHS[_trained(name, points)] for name in names}
    calls = _measured(survey, goal, ladder, points)
    return [_candidate(survey, goal, by_name[name], length, turn, calls) for name, length in lengths.items()]


def _chosen(ladder: Sequence[Rung], survey: Survey, goal: Goal) -> list[Rung]:
    """Return what the budget allows of the ladder: all that need no training, and of the others evenly spread ones.

    Where it is too small for any of those to learn enough, the boldest, which learns fastest.
    """
    quick, trained = ([rung for rung in ladder if bool(rung.trained) is wanted] for wanted in (False, True))
    trained = [rung for rung in trained if worthwhile(survey, goal, rung)] or trained[-1:]
    count = min(affordable(survey, goal), len(trained))
    places = {round((place + 1) * len(trained) / count) - 1 for place in range(count)} if count else set()
    return [*quick, *(trained[place] for place in sorted(places))]


def _finalists(goal: Goal, points: Sequence[Point]) -> list[str]:
    """Return the names to train in full: those that cost least of those that may still meet the goal.

    Where those are too few, what is closest to it as well. First comes what is closest to meeting it, then what meets
    it already: a budget may run out between them.
    """
    measured = sorted((each for each in points if each.figures is not None), key=lambda each: each.name)
    hopeful = sorted((each for each in measured if _may_recover(goal, each)), key=lambda each: cost(goal, each))
    others = sorted((each for each in measured if each not in hopeful), key=lambda each: excess(goal, each))
    chosen = [*hopeful, *others][:_AT_ONCE]
    return [each.name for each in sorted(chosen, key=lambda each: (each.meets, excess(goal, each)))]


def _better(goal: Goal, points: Sequence[Point], latest: Sequence[Point]) -> list[str]:
    """Return the names to train once more: those that would be better than the best so far, the closest to it first.

    Where nothing that was trained meets the goal, the closest is among them however far it is.
    """
    best = min((cost(goal, each) for each in points if each.meets), default=float("inf"))
    left = [
        each
        for each in latest
        if each.figures is not None
        and _trained(each.name, points) < len(_LENGTHS)
        and cost(goal, each) < best
        and lost(goal, each) > 0
        and oversized(goal, each) == 0
    ]
    near = sorted(left, key=lambda each: (excess(goal, each), each.name))
    hopeful = [each for each in near if (each.validation_drop or 0) <= goal.max_drop + _FAR]
    if not hopeful and not any(each.meets for each in latest):
        hopeful = near[:1]
    return [each.name for each in hopeful[:_AT_ONCE]]


def _trained(name: str, points: Sequence[Point]) -> int:
    """Return how often a rung has trained."""
    return sum(each.name == name for each in points)


def _may_recover(goal: Goal, found: Point) -> bool:
    allowed = max(_RECOVERED_TIMES * goal.max_drop, goal.max_drop + _RECOVERED)
    return found.validation_drop is None or found.validation_drop <= allowed


def _candidate(
    survey: Survey, goal: Goal, rung: Rung, length: float, turn: int, calls: Mapping[str, float]
) -> Candidate:
    recipe = rung.recipe(epochs(survey, goal, rung, length))
    return Candidate(rung.name, recipe, turn, calls.get(rung.name) or _predicted(survey, goal, rung))


def _measured(survey: Survey, goal: Goal, ladder: Sequence[Rung], points: Sequence[Point]) -> dict[str, float]:
    """Return by a rung's name the median of the calls in ms that were measured of it and its like.

    Alike are all that multiply as much as the original does, in its number format, and the original: a call of a tenth
    of a millisecond takes half as long again while something else is busy on the same hardware, so that one is no
    measure. A ratio to the original's is none either, which work beside it was seen to slow down more.
    """
    alike = {rung.name for rung in ladder if rung.macs == 1.0 and not rung.lowered(goal.device)}
    calls = [(each.name, each.figures.p50_ms) for each in points if each.figures and each.figures.p50_ms]
    found = {}
    for rung in ladder:
        whole = rung.name in alike
        known = [ms for name, ms in calls if name in (alike if whole else {rung.name})]
        if known:
            found[rung.name] = median([survey.p50_ms, *known] if whole else known)
    return found


def _predicted(survey: Survey, goal: Goal, rung: Rung) -> float | None:
    """Return the call in ms that a rung comes to by what is left to multiply; None where that cannot be told.

    It is rough: beyond what the survey found to stay however narrow a network is, it takes a call's time to go by its
    multiplications, each as much faster in the number format of the goal's device as the whole model is.
    """
    faster = survey.low_faster if rung.lowered(goal.device) else 1.0
    if not faster:
        return None
    fixed = _fixed(survey)
    return survey.p50_ms * (fixed + rung.macs * max(0.0, 1 / faster - fixed))


def _fixed(survey: Survey) -> float:
    """Return the share of the original's call that does not go by multiplications: a line through two measurements."""
    if survey.narrow_faster is None:
        return 0.0
    left = narrowest()
    return min(max(0.0, (1 / survey.narrow_faster - left) / (1 - left)), 1.0)
