"""A planner for tests of the machinery around it, and a worker that plans with it: two rounds, no figures."""

import sys
from collections.abc import Sequence
from typing import Literal

from app.contracts.goal import Goal
from app.contracts.job import TaskName
from app.contracts.recipe import Recipe
from app.contracts.search import Figures, Point, Search
from app.contracts.survey import Survey
from tests.stand_in import worker
from workers.planning import conclusion, rounds
from workers.planning.trying import Candidate, Tried

ROUNDS = [["share_weights", "ternarize", "binarize", "quantize_int8"], ["quantize_int4", "quantize_fp16"]]
ORIGINAL = 100


def next_round(_survey: Survey, _goal: Goal, _task: TaskName, tried: Sequence[Tried]) -> list[Candidate]:
    """Return round 0, then round 1, then nothing."""
    number = 1 + max((one.candidate.round for one in tried), default=-1)
    if number >= len(ROUNDS):
        return []
    made = [Recipe.model_validate({"steps": [{"technique": name}]}) for name in ROUNDS[number]]
    return [Candidate(name, recipe, number, 0.5) for name, recipe in zip(ROUNDS[number], made, strict=True)]


def conclude(
    _survey: Survey, goal: Goal, task: TaskName, tried: Sequence[Tried], ended_by: Literal["plan", "budget"]
) -> Search:
    """Recommend the last one that was measured; nothing where the goal allows a single byte."""
    measured = [one for one in tried if one.report is not None]
    met = bool(measured) and goal.max_size_bytes != 1
    return Search(
        goal=goal,
        metric=goal.metric_of(task),
        original=Figures(file_bytes=ORIGINAL),
        points=[_point(one) for one in tried],
        front=[one.job for one in measured],
        recommended=measured[-1].job if met else None,
        why="It was the last." if met else "Nothing is that small.",
        nearest=[] if met else [one.job for one in measured],
        ended_by=ended_by,
    )


def _point(one: Tried) -> Point:
    return Point(
        name=one.candidate.name,
        round=one.candidate.round,
        job=one.job,
        artifact=one.artifact,
        recipe=one.candidate.recipe,
        figures=Figures(file_bytes=one.report.after.file_bytes) if one.report else None,
        predicted_p50_ms=one.candidate.predicted_p50_ms,
        error=one.error,
    )


def install() -> None:
    rounds.next_round = next_round
    conclusion.conclude = conclude


if __name__ == "__main__":
    install()
    sys.exit(worker.main())
