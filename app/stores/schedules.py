"""When triggers of the kind `schedule` are due. Knows no cron expression and no job.

A due time is taken by compare-and-set on `next_at`, in the transaction that records the job: of several sweepers one
takes it, and one that dies in between has done neither.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from app.stores.database import now
from app.stores.records import Record
from app.stores.tables import schedules, triggers


def begin(tx: Connection, trigger_id: str, first: float | None) -> None:
    """Let a trigger be due at `first`, in Unix seconds."""
    tx.execute(insert(schedules).values(trigger_id=trigger_id, next_at=first, try_at=first))


def due(tx: Connection, limit: int = 100) -> Sequence[Record]:
    """Return up to `limit` triggers to see to now, with `next_at` and the database's time as `clock`."""
    both = triggers.join(schedules, schedules.c.trigger_id == triggers.c.id)
    chosen = select(triggers, schedules.c.next_at, now().label("clock")).select_from(both)
    return (
        tx.execute(chosen.where(schedules.c.try_at <= now()).order_by(schedules.c.try_at).limit(limit)).mappings().all()
    )


def take(tx: Connection, trigger_id: str, at: float, following: float | None) -> bool:
    """Wait for `following` in place of the due time `at`; False, changing nothing, when another has taken that."""
    return _set(tx, trigger_id, at, {"next_at": following, "try_at": following})


def put_off(tx: Connection, trigger_id: str, at: float, until: float, outcome: Mapping[str, Any] | None) -> bool:
    """Leave the due time `at` and see to it again at `until`; False when another has taken it."""
    told = {} if outcome is None else {"outcome": dict(outcome)}
    return _set(tx, trigger_id, at, {"try_at": until, **told})


def tell(tx: Connection, trigger_id: str, outcome: Mapping[str, Any]) -> None:
    """Keep what the due time that was taken led to."""
    tx.execute(update(schedules).where(schedules.c.trigger_id == trigger_id).values(outcome=dict(outcome)))


def _set(tx: Connection, trigger_id: str, at: float, values: Mapping[str, Any]) -> bool:
    stands = (schedules.c.trigger_id == trigger_id, schedules.c.next_at == at)
    return bool(tx.execute(update(schedules).where(*stands).values(**values)).rowcount)
