"""What the operator's commands tell: findings about an installation, how queues stand, how one piece of work stands."""

from typing import Any, Literal

from pydantic import Field

from app.contracts.base import Contract, Timestamp
from app.contracts.job import JobState
from app.contracts.problem import Problem
from app.contracts.tasks import Queue, WorkKind

Level = Literal["ok", "warning", "problem"]


class Finding(Contract):
    """One thing that was looked at: how it is, and the cure where it is not as it should be."""

    level: Level
    about: str
    finding: str
    cure: str = ""


class QueueStanding(Contract):
    """What waits and what runs in one queue, of all tenants together."""

    queue: Queue
    waiting: int
    running: int
    oldest_s: float | None = Field(description="how long what waits longest has waited")
    lost: int = Field(description="attempts that what is unfinished has lost with their workers")
    idle_s: float | None = Field(description="since a worker last began anything from this queue; null: never")


class WorkEvent(Contract):
    """One entry of the history of a piece of work, as it is stored."""

    id: int
    at: Timestamp
    entry: dict[str, Any]


class WorkStanding(Contract):
    """One piece of work as the database has it, whosoever it is."""

    id: str
    tenant: str
    kind: WorkKind
    queue: Queue
    state: JobState
    attempt: int
    losses: int = Field(description="attempts that ended with the worker gone, since the work was queued anew")
    owner: str | None = Field(description="host and process of the worker that has it, or had it last")
    lease_left_s: float | None = Field(description="below 0: the lease has run out; null: nobody holds the work")
    paused: bool = Field(description="a search that waits for its candidates")
    parent: str | None = None
    stage: str
    progress: float
    checkpoint_at: Timestamp | None = None
    error: Problem | None = None
    created_at: Timestamp
    started_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    events: list[WorkEvent] = Field([], description="the latest, oldest first")


class RetentionStanding(Contract):
    """What the rules of retention let go of one tenant, or have let go."""

    tenant: str
    noun: Literal["artifacts", "jobs", "models", "datasets"]
    count: int
    bytes: int = Field(description="that these records name; some may be those of records that stay")
