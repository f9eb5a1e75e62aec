"""What a search could have found: two points that meet the goal, others that do not, one that failed."""

from typing import Any

from app.contracts.base import new_id
from app.contracts.goal import Goal
from app.contracts.problem import Problem
from app.contracts.recipe import Recipe
from app.contracts.report import LayerDamage
from app.contracts.search import Figures, Point, Search
from app.errors import GuardNotMet, RuntimeCrashed, TimeLimitExceeded
from app.problems import problem_of

WHY = (
    "1 layer, ternary, int8 is the smallest that keeps accuracy within 1 point. The next, 2 layers, is 35 times larger."
)
WHY_NOT = "Nothing of at most 1 kB keeps accuracy within 1 point. 1 layer, ternary, int8 comes closest."
STRANGE = "<script>alert(2)</script>|layer.weight"
BEST = Recipe.model_validate({"steps": [{"technique": "prune_layers", "keep": 1}, {"technique": "ternarize"}]})
SECOND = Recipe.model_validate({"steps": [{"technique": "prune_layers", "keep": 2}, {"technique": "quantize_int8"}]})
GOAL = Goal(max_drop=0.01, max_size_bytes=20_000_000, max_p50_ms=4.0)


def point(name: str, file_bytes: int, p50_ms: float, validation: float, **changes: Any) -> Point:
    """One measured candidate of an original of 91 MB, 8 ms and an accuracy of 0.98."""
    fields: dict[str, Any] = {
        "name": name,
        "round": 1,
        "job": new_id("job"),
        "artifact": new_id("art"),
        "recipe": SECOND,
        "figures": Figures(
            file_bytes=file_bytes,
            p50_ms=p50_ms,
            resident_bytes=2 * file_bytes,
            validation=validation,
            test=validation - 0.001,
        ),
        "smaller": 91_000_000 / file_bytes,
        "faster": 8.0 / p50_ms,
        "validation_drop": 0.98 - validation,
        "test_drop": 0.982 - validation,
        "recall_drop": 0.02,
        "predicted_p50_ms": p50_ms * 1.1,
    }
    return Point(**{**fields, **changes})


SENSITIVITY = [
    LayerDamage(tensor="head", operator="Gemm", parameters=768, setting="ternary", damage=0.04),
    LayerDamage(tensor=STRANGE, operator="MatMul", parameters=147_456, setting="ternary", damage=0.31),
    LayerDamage(tensor="head", operator="Gemm", parameters=768, setting="int8", damage=0.0002),
]


def search() -> Search:
    """Return a search that found a point to recommend."""
    best = point("1 layer, ternary, int8", 450_000, 0.12, 0.975, recipe=BEST, round=2)
    second = point("2 layers, int8", 15_900_000, 1.7, 0.983)
    third = point("1 layer, binary", 310_000, 0.11, 0.91, misses=["accuracy lost 7.00 points, at most 1.00 is allowed"])
    beaten = point("3 layers", 40_000_000, 3.1, 0.978, misses=["40 MB, at most 20 MB is allowed"])
    crashed = Point(name="<b>rank 4</b>", round=0, job=new_id("job"), recipe=SECOND, error=problem_of(RuntimeCrashed()))
    late = Point(name="4 layers", round=2, job=new_id("job"), recipe=SECOND, error=problem_of(TimeLimitExceeded()))
    return Search(
        goal=GOAL,
        metric="accuracy",
        original=Figures(file_bytes=91_000_000, p50_ms=8.0, validation=0.98, test=0.982),
        points=[crashed, beaten, second, third, best, late],
        front=[best.job, second.job, third.job],
        recommended=best.job,
        why=WHY,
        ended_by="budget",
    )


def search_in_vain() -> Search:
    """Return a search that found nothing that meets its goal."""
    found = search()
    missed = [one.model_copy(update={"misses": ["larger than 1 kB"]}) if one.figures else one for one in found.points]
    changes = {
        "goal": Goal(max_drop=0.01, max_size_bytes=1000),
        "points": missed,
        "recommended": None,
        "nearest": [found.points[4].job, found.points[3].job],
        "why": WHY_NOT,
    }
    return found.model_copy(update=changes)


def not_met() -> Problem:
    """Return the problem that such a job ends with."""
    return problem_of(GuardNotMet(WHY_NOT))
