"""What stores and workers say of a piece of work: tickets, claims, bells. Knows no database."""

from dataclasses import dataclass

from app.contracts.tasks import Queue, WorkKind


@dataclass(frozen=True)
class Ticket:
    """New work: `id` is the resource's own; times in seconds; `trace` is the traceparent of what asks for it."""

    id: str
    tenant: str
    kind: WorkKind
    queue: Queue
    max_run_s: int
    max_queue_s: int = 86_400
    parent_id: str | None = None  # the search that this is a candidate of
    trace: str | None = None
    awaits: str | None = None  # the model whose check must have passed first


@dataclass(frozen=True)
class Claim:
    """The right to write to one row, for as long as its fence is the current one."""

    id: str
    tenant: str
    kind: WorkKind
    queue: Queue
    attempt: int
    fence: str
    max_run_s: int
    parent_id: str | None = None
    trace: str | None = None


@dataclass(frozen=True)
class Standing:
    """What a renewal found: whether the claim still holds, and whether someone asked to cancel."""

    still_ours: bool
    cancel_requested: bool


@dataclass(frozen=True)
class Bell:
    """A doorbell to ring: the id of queued work, its kind, queue and trace; `again` when it was rung before."""

    id: str
    kind: WorkKind
    queue: Queue
    again: bool = False
    trace: str | None = None
