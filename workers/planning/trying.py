"""What a search plans, and what came of it."""

from dataclasses import dataclass

from app.contracts.base import ArtifactId, JobId
from app.contracts.problem import Problem
from app.contracts.recipe import Recipe
from app.contracts.report import Report


@dataclass(frozen=True)
class Candidate:
    """A recipe to try in one round of the search; `name` tells it in words and is unique within its round."""

    name: str
    recipe: Recipe
    round: int
    predicted_p50_ms: float | None = None


@dataclass(frozen=True)
class Tried:
    """A candidate whose job has ended: with a report and an artifact, or with an error."""

    candidate: Candidate
    job: JobId
    report: Report | None = None
    artifact: ArtifactId | None = None
    error: Problem | None = None
