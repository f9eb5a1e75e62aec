"""The rounds of a search by successive halving (Jamieson & Talwalkar, 2016, arXiv 1502.07943).

First every rung of the ladder for a short time, then the most promising two for the full time, then, where none of them
meets the goal, the one that is closest for twice that. Longer training only helps, so a rung that meets the goal early
meets it later.
"""

from collections.abc import Sequence
from statistics import median

from app.contracts.goal import Goal
from app.contracts.job import TaskName
from app.contracts.search import Point
from app.contracts.survey import Survey
from workers.planning.effort import SHORT, affordable, epochs, worthwhile
from workers.planning.judging import cost, excess, point
from workers.planning.ladder import Rung, rungs
from workers.planning.trying import Candidate, Tried

_FINALISTS = 2
_LONG = 2.0
# What a short training has lost beyond the goal may come back in a long one: up to so many times what is allowed, or so
# much of the metric.
_RECOVERED_TIMES, _RECOVERED = 2.0, 0.01


def next_round(survey: Survey, goal: Goal, task: TaskName, tried: Sequence[Tried]) -> list[Candidate]:
    """Return what to run next, all side by side; nothing when the search is over."""
    ladder = _chosen(rungs(survey, goal, task), survey, goal)
    if not tried:
        return [_candidate(survey, goal, rung, SHORT, 0, ()) for rung in ladder]
    points = [point(survey, goal, task, each) for each in tried]
    by_name = {rung.name: rung for rung in ladder if rung.trained}
    done = max(each.round for each in points)
    if done == 0:
        names = _finalists(goal, [each for each in points if each.name in by_name])
        return [_candidate(survey, goal, by_name[name], 1.0, 1, points) for name in names]
    if done == 1:
        finalists = [each for each in points if each.round == 1 and each.figures is not None]
        if finalists and not any(each.meets for each in finalists):
            closest = min(finalists, key=lambda each: (excess(goal, each), each.name))
            return [_candidate(survey, goal, by_name[closest.name], _LONG, 2, points)]
    return []


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
    chosen = [*hopeful, *others][:_FINALISTS]
    return [each.name for each in sorted(chosen, key=lambda each: (each.meets, excess(goal, each)))]


def _may_recover(goal: Goal, found: Point) -> bool:
    allowed = max(_RECOVERED_TIMES * goal.max_drop, goal.max_drop + _RECOVERED)
    return found.validation_drop is None or found.validation_drop <= allowed


def _candidate(survey: Survey, goal: Goal, rung: Rung, length: float, turn: int, points: Sequence[Point]) -> Candidate:
    recipe = rung.recipe(epochs(survey, goal, rung, length))
    return Candidate(rung.name, recipe, turn, _predicted(survey, rung, points))


def _predicted(survey: Survey, rung: Rung, points: Sequence[Point]) -> float | None:
    """Return the median call of a rung: from the same rung as measured before, else by what is left to multiply.

    The latter is rough: it takes a call's time to go by its multiplications, each as much faster in the number format
    of the goal's device as the survey found the whole model to be.
    """
    original_ms = _original_ms(survey, points)
    twins = [each.faster for each in points if each.name == rung.name and each.faster]
    if twins:
        return original_ms / twins[-1]
    faster = survey.low_faster if rung.lowered else 1.0
    return original_ms * rung.macs / faster if faster else None


def _original_ms(survey: Survey, points: Sequence[Point]) -> float:
    """Return the original's median call. Each candidate was timed beside it; the survey may have met a busy moment."""
    beside = [
        each.figures.p50_ms * each.faster for each in points if each.figures and each.figures.p50_ms and each.faster
    ]
    return median([survey.p50_ms, *beside])
