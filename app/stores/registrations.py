"""The outbox of results that go back to a registry: a row waits with its job, and is due once that has succeeded.

Knows no registry and no HTTP: what is to be registered, and when the next try is due.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, insert, or_, select, update

from app.contracts.job import JobState
from app.stores import histories
from app.stores.database import now
from app.stores.tables import registrations, work

# Waits before tries 2 to 10, in seconds: as those of webhooks, 27 hours together.
_WAITS_S = (5, 60, 300, 1_800, 7_200, 18_000, 21_600, 21_600, 25_200)
_JITTER = 0.2


@dataclass(frozen=True)
class Registration:
    """What a job's result is to become: a version of `result_name`, made from a version of `source_name`."""

    job_id: str
    tenant: str
    server: str
    source_name: str
    source_version: str
    result_name: str
    alias: str | None
    tags: Mapping[str, str]
    tries: int = 0


def expect(tx: Connection, wanted: Registration) -> None:
    """Note with a new job what its result is to become. Call it after the job's work is there."""
    tx.execute(insert(registrations).values(**vars(wanted)))


def settle(tx: Connection, job_id: str, state: JobState) -> None:
    """Make the registration of a job that succeeded due; any other may be resumed, and succeed then."""
    if state == JobState.SUCCEEDED:
        tx.execute(update(registrations).where(registrations.c.job_id == job_id).values(next_at=now()))


def take_due(tx: Connection, lease_s: float, limit: int = 4) -> list[Registration]:
    """Lease up to `limit` registrations that are due; one whose taker died is due again after `lease_s`."""
    table = registrations
    free = or_(table.c.lease_until.is_(None), table.c.lease_until < now())
    chosen = select(table).where(and_(table.c.next_at <= now(), free)).order_by(table.c.next_at).limit(limit)
    rows = tx.execute(chosen.with_for_update(skip_locked=True)).all()
    for row in rows:
        tx.execute(update(table).where(table.c.job_id == row.job_id).values(lease_until=now() + lease_s))
    names = Registration.__dataclass_fields__
    return [Registration(**{name: getattr(row, name) for name in names}) for row in rows]


def note_version(tx: Connection, job_id: str, version: str) -> None:
    """Record which version was made, before anybody hears of it: what is ours starts no job."""
    tx.execute(update(registrations).where(registrations.c.job_id == job_id).values(result_version=version))


def record(tx: Connection, tried: Registration, version: str | None) -> None:
    """Record one try: the version that is registered now, or None when it failed and waits, at last for ever."""
    values: dict[str, object] = {"tries": tried.tries + 1, "lease_until": None, "next_at": None}
    if version is not None:
        said = f"registered as {tried.result_name} version {version}"
        histories.append(tx, tried.job_id, {"kind": "log", "message": said})
    elif tried.tries < len(_WAITS_S):
        values["next_at"] = now() + _WAITS_S[tried.tries] * random.uniform(1, 1 + _JITTER)
    tx.execute(update(registrations).where(registrations.c.job_id == tried.job_id).values(**values))


def is_ours(tx: Connection, server: str, name: str, version: str) -> bool:
    """Return whether this service registered that version."""
    table = registrations
    wanted = (table.c.server == server, table.c.result_name == name, table.c.result_version == version)
    return tx.execute(select(table.c.job_id).where(*wanted).limit(1)).first() is not None


def awaited(tx: Connection, model_id: str) -> bool:
    """Return whether a job of a registry's waits for the model, so that it must not be a result of ours."""
    joined = registrations.join(work, work.c.id == registrations.c.job_id)
    chosen = select(registrations.c.job_id).select_from(joined).where(work.c.awaits == model_id).limit(1)
    return tx.execute(chosen).first() is not None
