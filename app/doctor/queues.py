"""Work that nobody takes, sweeps or sends on, by what the database tells."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.contracts.operations import Finding, QueueStanding
from app.doctor.words import ok, problem, span, warning
from app.resources import Resources
from app.services import operations
from app.settings import Settings
from app.stores import figures

_PATIENCE_S = 60.0  # twice the time after which the sweeper rings again
_MANY_TRIES_S = 120.0
_NAMED = 3


@dataclass(frozen=True)
class _Outgoing:
    """What goes out, and the cures: where nobody sends it, and where nobody takes it."""

    about: str
    sender: str
    receiver: str


_WEBHOOKS = _Outgoing(
    "webhooks",
    "start the sweeper, which sends them: python -m workers.sweeper",
    "look at the receivers, at this network's way out and, for private addresses, at MODELPRESS_ALLOW_PRIVATE_URLS; "
    "the sweeper's log has each answer",
)
_REGISTRATIONS = _Outgoing(
    "registrations",
    "start a worker that may reach out, which sends them: python -m workers.main --queues egress",
    "look at the registry and at MODELPRESS_MLFLOW_SERVERS; the log of the workers of the queue egress has each answer",
)


def look(resources: Resources) -> Iterator[Finding]:
    """Yield how queues, leases, quarantine and what goes out stand. Raises DependencyUnavailable."""
    settings = resources.settings
    yield from _queues(operations.queues(resources))
    with resources.database.reading() as tx:
        expired = figures.expired(tx, settings.lease_s + 4 * settings.sweep_every_s)
        quarantined = figures.quarantined(tx)
        webhooks, registrations = figures.webhooks(tx), figures.registrations(tx)
    yield from _expired(expired, settings)
    yield from _quarantined(quarantined)
    yield _outbox(_WEBHOOKS, webhooks)
    yield _outbox(_REGISTRATIONS, registrations)


def _queues(found: Sequence[QueueStanding]) -> Iterator[Finding]:
    if not found:
        yield ok("queues", "nothing waits and nothing runs")
    for one in found:
        yield _queue(one)


def _queue(one: QueueStanding) -> Finding:
    about, since = f"queue {one.queue}", "no worker ever took anything from it"
    if one.idle_s is not None:
        since = f"the last was taken {span(one.idle_s)} ago"
    if one.waiting and not one.running and min(one.oldest_s or 0.0, one.idle_s or 1e12) > _PATIENCE_S:
        return problem(
            about,
            f"{one.waiting} wait, the oldest for {span(one.oldest_s or 0.0)}, and nobody takes them: {since}",
            f"start a worker: python -m workers.main --queues {one.queue}; if one runs, look at the broker and its log",
        )
    return ok(about, f"{one.waiting} wait, {one.running} run; {since}")


def _expired(found: Sequence[str], settings: Settings) -> Iterator[Finding]:
    if found:
        yield problem(
            "leases",
            f"ran out, and nobody takes the work back: {len(found)} ({_some(found)})",
            f"start the sweeper: python -m workers.sweeper; it looks every {settings.sweep_every_s:g} s",
        )
    else:
        yield ok("leases", "none has run out unseen")


def _quarantined(found: Sequence[str]) -> Iterator[Finding]:
    if found:
        yield warning(
            "quarantine",
            f"work set aside: {len(found)} ({_some(found)})",
            "modelpress admin work ID tells why; once the cause is cured: modelpress admin requeue ID",
        )
    else:
        yield ok("quarantine", "no work is set aside")


def _outbox(kind: _Outgoing, found: figures.Outbox) -> Finding:
    if found.overdue_s > _MANY_TRIES_S:
        said = f"{found.waiting} wait to be sent, the longest {span(found.overdue_s)} over its time"
        return problem(kind.about, said, kind.sender)
    if found.refused or found.given_up:
        said = f"{found.refused} were tried in vain and are tried again, {found.given_up} were given up"
        return warning(kind.about, said, kind.receiver)
    return ok(kind.about, f"{found.waiting} wait to be sent")


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (" …" if len(ids) > _NAMED else "")
