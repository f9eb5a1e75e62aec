"""Rows of the nouns: models, data sets, uploads, jobs, artifacts, benchmarks, triggers, idempotency keys.

Every read names the tenant, so another tenant's id answers exactly as an unknown one. Where a worker acts on a noun,
its `work` columns come in the same row. Knows no contract beyond ids, no blob and no broker.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Insert,
    RowMapping,
    Select,
    Table,
    bindparam,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError

from app.contracts.job import JobState
from app.errors import NotFound
from app.stores import tables
from app.stores.database import now
from app.stores.work import UNENDED

_ID = re.compile(r"[a-z]{3}_[0-9a-z]{26}")
_WORKED_ON = {tables.models, tables.datasets, tables.jobs, tables.benchmarks}
_CHECKPOINT_COLUMNS = ("attempt", "size_bytes", "position", "at")
_WORK_COLUMNS = (
    "state", "attempt", "stage", "progress", "eta_s", "sandbox", "error", "started_at", "ended_at", "parent_id",
)  # fmt: skip
Record = RowMapping  # a row by column name
Transaction = Connection
STALE_KEY_S = 60.0  # a reservation this old belongs to a gateway that died while it answered


@dataclass(frozen=True)
class Cursor:
    """A page of a list, newest first: up to `limit` rows older than the id `after`."""

    limit: int
    after: str | None = None


def find(tx: Connection, table: Table, tenant: str, row_id: str) -> Record | None:
    """Return the row with its work columns, or None when this tenant has none of this id."""
    if not _ID.fullmatch(row_id):
        return None
    return tx.execute(_one(table), {"row_id": row_id, "of_tenant": tenant}).mappings().one_or_none()


def get(tx: Connection, table: Table, tenant: str, row_id: str) -> Record:
    """Return the row as `find` does; raises NotFound."""
    row = find(tx, table, tenant, row_id)
    if row is None:
        noun = table.name.removesuffix("s")
        msg = f"There is no {noun} with this id."
        raise NotFound(msg)
    return row


def page(
    tx: Connection, table: Table, tenant: str, cursor: Cursor, filters: Mapping[str, str | None] | None = None
) -> Sequence[Record]:
    """Return one row more than the page holds, when there is one.

    `filters`: `state`, `parent` (a search) and a table's own columns by name, anything else by the document's field of
    that name.
    """
    chosen = _rows(table).where(table.c.tenant == tenant)
    for name, value in (filters or {}).items():
        if value is None:
            continue
        if name == "state" and table in _WORKED_ON:
            chosen = chosen.where(tables.work.c.state.in_(value.split(",")))
        elif name == "parent" and table in _WORKED_ON:
            chosen = chosen.where(tables.work.c.parent_id == value)
        elif name in table.c:
            chosen = chosen.where(table.c[name] == value)
        else:
            chosen = chosen.where(table.c.document[name].as_string() == value)
    if cursor.after is not None:
        chosen = chosen.where(table.c.id < cursor.after)
    return tx.execute(chosen.order_by(table.c.id.desc()).limit(cursor.limit + 1)).mappings().all()


def add(tx: Connection, table: Table, tenant: str, row_id: str, columns: Mapping[str, Any]) -> None:
    """Insert a row, created now."""
    tx.execute(_new(table), {"id": row_id, "tenant": tenant, **columns})


def change(tx: Connection, table: Table, row_id: str, columns: Mapping[str, Any]) -> None:
    """Update columns of a row that the caller has read within its tenant."""
    tx.execute(update(table).where(table.c.id == row_id).values(**columns))


def remove(tx: Connection, table: Table, row_id: str) -> None:
    """Delete a row that the caller has read within its tenant, with its work and history."""
    tx.execute(delete(table).where(table.c.id == row_id))
    tx.execute(delete(tables.work).where(tables.work.c.id == row_id))


def clock(tx: Connection) -> float:
    """Return the database's time in Unix seconds."""
    return float(tx.execute(select(now())).scalar_one())


def parts(tx: Connection, upload_id: str) -> Sequence[Record]:
    """Return an upload's committed parts in order."""
    table = tables.upload_parts
    chosen = select(table).where(table.c.upload_id == upload_id).order_by(table.c.offset)
    return tx.execute(chosen).mappings().all()


def add_part(tx: Connection, upload_id: str, offset: int, length: int, key: str) -> bool:
    """Append a stored part and advance the upload; False, changing nothing, when the upload stands elsewhere.

    Parts in a row may share a key: then each follows the one before in the same object.
    """
    table = tables.uploads
    stands = (table.c.id == upload_id, table.c.offset == offset, table.c.complete.is_(False))
    if not tx.execute(update(table).where(*stands).values(offset=offset + length)).rowcount:
        return False
    tx.execute(insert(tables.upload_parts).values(upload_id=upload_id, offset=offset, length=length, key=key))
    return True


def rewind(tx: Connection, upload_id: str, start: int, reached: int) -> list[str]:
    """Take the upload from `reached` back to `start`; return the keys that no part names now, none if it moved on."""
    table, parts_table = tables.uploads, tables.upload_parts
    stands = (table.c.id == upload_id, table.c.offset == reached, table.c.complete.is_(False))
    if not tx.execute(update(table).where(*stands).values(offset=start)).rowcount:
        return []
    later = (parts_table.c.upload_id == upload_id, parts_table.c.offset >= start)
    keys = set(tx.execute(select(parts_table.c.key).where(*later)).scalars())
    tx.execute(delete(parts_table).where(*later))
    return sorted(keys - {part["key"] for part in parts(tx, upload_id)})


def complete_upload(tx: Connection, upload_id: str, sha256: str, size_bytes: int) -> None:
    """Note that the upload is whole, with its digest, and forget its parts."""
    columns = {"complete": True, "sha256": sha256, "offset": size_bytes, "length": size_bytes}
    change(tx, tables.uploads, upload_id, columns)
    tx.execute(delete(tables.upload_parts).where(tables.upload_parts.c.upload_id == upload_id))


def open_uploads(tx: Connection, tenant: str) -> int:
    """Return how many unfinished, unexpired uploads the tenant has."""
    table = tables.uploads
    wanted = (table.c.tenant == tenant, table.c.complete.is_(False), table.c.expires_at > now())
    return tx.execute(select(func.count()).select_from(table).where(*wanted)).scalar_one()


def stored_bytes(tx: Connection, tenant: str) -> int:
    """Return the bytes of the tenant's uploads, models and data sets, each content once."""
    uploads = tables.uploads
    mine = (uploads.c.tenant == tenant, uploads.c.expires_at > now())
    sizes = [select(uploads.c.sha256, cast(uploads.c.offset, Float).label("size")).where(*mine, uploads.c.complete)]
    for table in (tables.models, tables.datasets):
        size = table.c.document["size_bytes"].as_float()
        sizes.append(select(table.c.sha256, size.label("size")).where(table.c.tenant == tenant))
    named = union_all(*sizes).subquery()
    once = select(func.max(named.c.size).label("size")).group_by(named.c.sha256).subquery()
    whole = tx.execute(select(func.coalesce(func.sum(once.c.size), 0.0))).scalar_one()
    arriving = select(func.coalesce(func.sum(uploads.c.offset), 0)).where(*mine, uploads.c.complete.is_(False))
    return int(whole) + int(tx.execute(arriving).scalar_one())


def forget_expired(tx: Connection, keep_s: float, limit: int = 100) -> list[str]:
    """Delete expired uploads, and keys and deliveries older than `keep_s`; return the uploads' ids."""
    table = tables.uploads
    chosen = select(table.c.id).where(table.c.expires_at < now()).limit(limit).with_for_update(skip_locked=True)
    ids = list(tx.execute(chosen).scalars())
    tx.execute(delete(table).where(table.c.id.in_(ids)))
    for old in (tables.idempotency_keys, tables.hook_deliveries):
        tx.execute(delete(old).where(old.c.at < now() - keep_s))
    return ids


def referenced_digests(tx: Connection) -> set[str]:
    """Return the digest of every blob that a record of any tenant names.

    Models, data sets, artifacts, finished uploads, the latest checkpoint of each piece of work, and what searches that
    have not ended keep for their candidates.
    """
    models, variants = tables.models.c, tables.artifacts.c.document["variants"]
    logits = select(tables.searches.c.survey["logits"].as_string()).join(tables.work)
    others = (table.c.sha256 for table in (tables.datasets, tables.uploads, tables.checkpoints))
    columns = (models.sha256, models.onnx_sha256, models.tokenizer_sha256, *others)
    found = {digest for column in columns for digest in tx.execute(select(column)).scalars()}
    found |= set(tx.execute(logits.where(tables.work.c.ended_at.is_(None))).scalars())
    for files in tx.execute(select(variants)).scalars():
        found |= {file["sha256"] for file in files.values()}
    return found - {None}


def known_uploads(tx: Connection) -> set[str]:
    """Return the ids of all uploads of all tenants."""
    return set(tx.execute(select(tables.uploads.c.id)).scalars())


def reserve_key(tx: Connection, tenant: str, key: str, request_sha256: str) -> Record | None:
    """Reserve an idempotency key; return None when it is now ours, else the row that holds it.

    A reservation without an answer that is older than STALE_KEY_S is taken over when the request is the same.
    """
    table = tables.idempotency_keys
    row = {"tenant": tenant, "key": key, "request_sha256": request_sha256, "at": now()}
    try:
        with tx.begin_nested():
            tx.execute(insert(table).values(**row))
    except IntegrityError:
        mine = (table.c.tenant == tenant, table.c.key == key)
        stale = (table.c.status.is_(None), table.c.at < now() - STALE_KEY_S, table.c.request_sha256 == request_sha256)
        if tx.execute(update(table).where(*mine, *stale).values(at=now())).rowcount:
            return None
        return tx.execute(select(table).where(*mine)).mappings().one()
    return None


def answer_key(tx: Connection, tenant: str, key: str, answer: Mapping[str, Any]) -> None:
    """Keep the answer (`status`, `location`, `body`) under the reserved key."""
    table = tables.idempotency_keys
    tx.execute(update(table).where(table.c.tenant == tenant, table.c.key == key).values(**answer))


def free_key(tx: Connection, tenant: str, key: str) -> None:
    """Give up a reservation whose request was refused, so that the corrected request may use the key."""
    table = tables.idempotency_keys
    tx.execute(delete(table).where(table.c.tenant == tenant, table.c.key == key, table.c.status.is_(None)))


def reserve_delivery(tx: Connection, trigger_id: str, delivery_id: str) -> Record | None:
    """Note a webhook delivery; return None when it is new, else the row of its first arrival."""
    table = tables.hook_deliveries
    try:
        with tx.begin_nested():
            tx.execute(insert(table).values(trigger_id=trigger_id, delivery_id=delivery_id, at=now()))
    except IntegrityError:
        mine = (table.c.trigger_id == trigger_id, table.c.delivery_id == delivery_id)
        return tx.execute(select(table).where(*mine)).mappings().one()
    return None


def answer_delivery(tx: Connection, trigger_id: str, delivery_id: str, outcome: Mapping[str, Any]) -> None:
    """Keep what the delivery led to."""
    table = tables.hook_deliveries
    mine = (table.c.trigger_id == trigger_id, table.c.delivery_id == delivery_id)
    tx.execute(update(table).where(*mine).values(outcome=dict(outcome)))


def trigger_of_hook(tx: Connection, trigger_id: str) -> Record | None:
    """Return a trigger whoever owns it: a hook's caller proves itself by the signature, not by a key."""
    if not _ID.fullmatch(trigger_id):
        return None
    table = tables.triggers
    return tx.execute(select(table).where(table.c.id == trigger_id)).mappings().one_or_none()


def queue_figures(tx: Connection) -> Iterable[Record]:
    """Return `queue`, `state`, `count` and the oldest's age in seconds, for work that has not ended.

    A search that waits for its candidates occupies no worker, so it is not among what runs; nor is a job that waits for
    its model's check among what is queued.
    """
    table = tables.work
    age = (now() - func.min(table.c.created_at)).label("oldest_s")
    chosen = select(table.c.queue, table.c.state, func.count().label("count"), age).where(table.c.state.in_(UNENDED))
    chosen = chosen.where(or_(table.c.state != JobState.RUNNING, table.c.paused.is_not(True)), table.c.awaits.is_(None))
    return tx.execute(chosen.group_by(table.c.queue, table.c.state)).mappings().all()


def latest_sandbox(tx: Connection) -> str | None:
    """Return the sandbox level that the latest child reported, or None when no child has run yet."""
    table = tables.work
    chosen = select(table.c.sandbox).where(table.c.sandbox.is_not(None)).order_by(table.c.started_at.desc()).limit(1)
    return tx.execute(chosen).scalar_one_or_none()


@cache  # putting a statement together takes longer than running it
def _new(table: Table) -> Insert:
    return insert(table).values(created_at=now())


@cache
def _one(table: Table) -> Select[Any]:
    return _rows(table).where(table.c.id == bindparam("row_id"), table.c.tenant == bindparam("of_tenant"))


def _rows(table: Table) -> Select[Any]:
    columns: list[ColumnElement[Any]]
    if table is tables.triggers:
        due = tables.schedules
        columns = [due.c.next_at.label("schedule_next_at"), due.c.outcome.label("schedule_outcome")]
        return select(table, *columns).select_from(table.outerjoin(due, due.c.trigger_id == table.c.id))
    if table not in _WORKED_ON:
        return select(table)
    columns = [tables.work.c[name] for name in _WORK_COLUMNS]
    worked = table.join(tables.work, tables.work.c.id == table.c.id)
    if table is not tables.jobs:
        return select(table, *columns).select_from(worked)
    left = tables.checkpoints
    columns += [left.c[name].label(f"checkpoint_{name}") for name in _CHECKPOINT_COLUMNS]
    return select(table, *columns).select_from(worked.outerjoin(left, left.c.work_id == table.c.id))
