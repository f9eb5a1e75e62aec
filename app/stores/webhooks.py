"""The outbox of webhooks: rows are written in the transaction that ends a job and delivered by the sweeper process.

Knows no HTTP: what a delivery is, and when the next try is due.
"""

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update

from app.contracts.base import new_id
from app.stores.database import now
from app.stores.tables import jobs, triggers, webhooks, work

# Waits before tries 2 to 10, in seconds: together 27 hours, as Standard Webhooks recommends.
_WAITS_S = (5, 60, 300, 1_800, 7_200, 18_000, 21_600, 21_600, 25_200)
_JITTER = 0.2


@dataclass(frozen=True)
class Delivery:
    """One try to make: where, signed with what (empty: the service's own secret), which bytes."""

    id: str
    url: str
    secret: str
    body: str
    tries: int
    trace: str | None = None  # traceparent of the work that it tells of


def announce(tx: Connection, job_id: str, state: str, problem: dict[str, Any] | None) -> None:
    """Put the end of a job into the outbox, when the job asked for it: a CloudEvent in structured form."""
    job = tx.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    url = job.document.get("webhook") if job else None
    if job is None or not url:
        return
    secret = tx.execute(select(triggers.c.secret).where(triggers.c.id == job.trigger_id)).scalar_one_or_none()
    body = {
        "specversion": "1.0",
        "id": new_id("evt"),
        "source": "/v1/jobs",
        "subject": job_id,
        "type": f"dev.modelpress.job.{state}",
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": {
            "job": job_id,
            "state": state,
            "model": job.document.get("model"),
            "artifact": job.artifact_id,
            "trigger": job.trigger_id,
            "tags": job.document.get("tags", {}),
            "error": problem,
        },
    }
    tx.execute(
        webhooks.insert().values(
            id=body["id"],
            tenant=job.tenant,
            url=url,
            secret=secret or "",
            body=json.dumps(body),
            tries=0,
            next_at=now(),
            trace=select(work.c.trace).where(work.c.id == job_id).scalar_subquery(),
        )
    )


def take_due(tx: Connection, lease_s: float, limit: int = 20) -> list[Delivery]:
    """Lease up to `limit` deliveries that are due; a delivery whose taker died is due again after `lease_s`."""
    free = or_(webhooks.c.lease_until.is_(None), webhooks.c.lease_until < now())
    chosen = select(webhooks).where(and_(webhooks.c.next_at <= now(), free)).order_by(webhooks.c.next_at).limit(limit)
    rows = tx.execute(chosen.with_for_update(skip_locked=True)).all()
    for row in rows:
        tx.execute(update(webhooks).where(webhooks.c.id == row.id).values(lease_until=now() + lease_s))
    return [Delivery(row.id, row.url, row.secret, row.body, row.tries, row.trace) for row in rows]


def record(tx: Connection, delivery: Delivery, status: int | None) -> None:
    """Record one try: `status` is the HTTP answer, None when there was none. 2xx ends it, anything else waits."""
    delivered = status is not None and 200 <= status < 300  # noqa: PLR2004 - the range that HTTP calls success
    given_up = delivery.tries >= len(_WAITS_S)
    values: dict[str, object] = {"tries": delivery.tries + 1, "lease_until": None, "last_status": status}
    if delivered or given_up:
        values["next_at"] = None
    else:
        wait_s = _WAITS_S[delivery.tries] * random.uniform(1, 1 + _JITTER)
        values["next_at"] = now() + wait_s
    tx.execute(update(webhooks).where(webhooks.c.id == delivery.id).values(**values))


def count_waiting(tx: Connection) -> int:
    """Return how many deliveries are still to be made."""
    chosen = select(func.count()).select_from(webhooks).where(webhooks.c.next_at.is_not(None))
    return tx.execute(chosen).scalar_one()
