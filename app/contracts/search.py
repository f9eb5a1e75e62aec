"""What a job with a goal found: candidates, the points that were measured, the Pareto front, the one recommended."""

from typing import Any, Literal

from pydantic import Field, model_validator

from app.contracts.base import ArtifactId, Contract, JobId
from app.contracts.goal import Goal, MetricName
from app.contracts.problem import Problem
from app.contracts.recipe import Recipe


class Figures(Contract):
    """What a goal can name, of one model. Scores are of the goal's metric."""

    file_bytes: int
    p50_ms: float | None = Field(None, description="median of one call at the goal's batch size")
    resident_bytes: int | None = None
    validation: float | None = None
    test: float | None = None


class Point(Contract):
    """One candidate that was compressed and measured: a recipe, its artifact and its figures."""

    name: str = Field(description="in words", examples=["1 layer, ternary, int8"])
    round: int = Field(ge=0, description="which round of the search it was measured in; each trains longer")
    job: JobId
    artifact: ArtifactId | None = Field(None, description="null where the job failed")
    recipe: Recipe
    figures: Figures | None = None
    smaller: float | None = Field(None, description="the original's file divided by this one's")
    faster: float | None = Field(None, description="the original's median call divided by this one's, taken in turns")
    validation_drop: float | None = None
    test_drop: float | None = None
    recall_drop: float | None = Field(None, description="the most that any class lost, on validation rows")
    predicted_p50_ms: float | None = Field(None, description="from the cost model, before it was measured")
    misses: list[str] = Field([], description="what of the goal it does not meet, in words; empty: it meets all")
    error: Problem | None = None

    @property
    def meets(self) -> bool:
        """Whether it was measured and meets every bound of the goal."""
        return self.figures is not None and not self.misses


class Search(Contract):
    """How a goal was looked for and what was found."""

    goal: Goal
    metric: MetricName
    original: Figures
    points: list[Point] = Field(description="all that was tried, in the order of the search")
    front: list[JobId] = Field(description="of the measured: those that none beats in size, latency and metric alike")
    recommended: JobId | None = Field(None, description="null where nothing meets the goal")
    why: str = Field(description="why this one, or what keeps the goal from being met, in two sentences")
    nearest: list[JobId] = Field([], description="where nothing meets the goal: what comes closest, best first")
    ended_by: Literal["plan", "budget"] = Field(description="whether all that was planned was tried")

    @model_validator(mode="before")
    @classmethod
    def _without_sensitivity(cls, fields: Any) -> Any:  # noqa: ANN401 # whatever is validated
        """Leave out what stored reports of earlier versions have here; now the report itself has it."""
        if isinstance(fields, dict):
            return {name: value for name, value in fields.items() if name != "sensitivity"}
        return fields
