"""Compression jobs: the request, the states, the events."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, HttpUrl, model_validator

from app.contracts.base import ArtifactId, Contract, DatasetId, JobId, ModelId, Tags, Timestamp, TriggerId
from app.contracts.checkpoint import Checkpoint
from app.contracts.goal import Goal, MetricName
from app.contracts.problem import Problem
from app.contracts.recipe import Recipe
from app.contracts.report import CurvePoint

TaskName = Literal["classification", "multilabel", "regression", "match"]


class JobState(StrEnum):
    """States of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


class Guard(Contract):
    """What the result may lose at most, measured on validation rows."""

    metric: MetricName = "accuracy"
    max_drop: float = Field(0.01, ge=0, le=1, description="absolute: 0.01 is one percentage point")


class Limits(Contract):
    """Three clocks, in seconds."""

    max_run_s: int = Field(3600, ge=1, le=7 * 86_400)
    max_queue_s: int = Field(86_400, ge=1, le=30 * 86_400)


def refuse_unclear(recipe: Recipe | None, goal: Goal | None, guard: Guard | None) -> None:
    """Raise ValueError unless there is either a recipe, guarded or not, or a goal."""
    if (recipe is None) == (goal is None):
        msg = "say what to do with `recipe`, or what to reach with `goal`: one of the two"
        raise ValueError(msg)
    if goal is not None and guard is not None:
        msg = "a goal has bounds of its own; leave `guard` out and set goal.metric and goal.max_drop"
        raise ValueError(msg)


class JobCreate(Contract):
    """Compress a model by a recipe, or by a goal that the service finds a recipe for."""

    model: ModelId
    dataset: DatasetId | None = Field(None, description="may be missing for steps that need no data")
    task: TaskName = Field("classification", description="match: no labels, agree with the original")
    seed: int = Field(0, ge=0, lt=2**31)
    recipe: Recipe | None = Field(None, description="what to do, step by step; or give a goal")
    goal: Goal | None = Field(None, description="what to reach, in place of a recipe")
    guard: Guard | None = Field(None, description="for a recipe; a goal has bounds of its own")
    limits: Limits = Limits()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    webhook: HttpUrl | None = None
    tags: Tags = {}

    @model_validator(mode="after")
    def _one_of_two(self) -> "JobCreate":
        refuse_unclear(self.recipe, self.goal, self.guard)
        return self


class Job(Contract):
    """A compression job."""

    id: JobId
    state: JobState
    model: ModelId
    dataset: DatasetId | None
    task: TaskName
    seed: int
    recipe: Recipe | None = None
    goal: Goal | None = None
    parent: JobId | None = Field(None, description="the job with a goal that this one is a candidate of")
    guard: Guard | None
    limits: Limits
    device: str
    webhook: HttpUrl | None = None
    tags: Tags
    trigger: TriggerId | None = None
    attempt: int = 0
    stage: str = ""
    progress: float = Field(0.0, ge=0, le=1)
    eta_s: float | None = None
    sandbox: Literal["full", "partial", "none"] | None = None
    artifact: ArtifactId | None = None
    checkpoint: Checkpoint | None = Field(
        None, description="the latest; a failed or cancelled job that has one can be resumed from it"
    )
    error: Problem | None = None
    created_at: Timestamp
    started_at: Timestamp | None = None
    ended_at: Timestamp | None = None

    @property
    def resumable(self) -> bool:
        """Whether the job has ended and can go on from its checkpoint."""
        return self.checkpoint is not None and self.state in {JobState.FAILED, JobState.CANCELLED}


class Event(Contract):
    """One entry of a job's history; ids grow by one per job, so a client can resume after the last it saw."""

    id: int
    at: Timestamp
    kind: Literal["state", "progress", "log", "curve", "step"]
    stage: str = ""
    progress: float | None = None
    eta_s: float | None = None
    message: str = ""
    point: CurvePoint | None = None
    detail: dict[str, Any] = {}
