"""Data sets: made of stored bytes, checked by a worker, listed, deleted. Opens no data."""

from app import formats
from app.contracts.base import Page, new_id
from app.contracts.dataset import Dataset, DatasetCreate
from app.contracts.tasks import Queue, WorkKind
from app.errors import Conflict
from app.services import sources, uploads
from app.services.caller import Caller, timestamp
from app.services.models import check_state
from app.services.quotas import refuse_over_quota
from app.stores import records, work
from app.stores.tables import datasets, jobs


def create(caller: Caller, request: DatasetCreate) -> Dataset:
    """Record a data set of a finished upload, or one to be pulled, and have it checked; the answer is `checking`."""
    formats.refuse_unsafe_name(request.name)
    dataset_id = new_id("dst")
    with caller.resources.database.transaction() as tx:
        ticket = _record(tx, caller, dataset_id, request)
        dataset = dataset_of(records.get(tx, datasets, caller.tenant, dataset_id))
    caller.resources.broker.ring(ticket.kind, dataset_id, ticket.queue, ticket.trace)
    return dataset


def _record(tx: records.Transaction, caller: Caller, dataset_id: str, request: DatasetCreate) -> work.Ticket:
    document = request.model_dump(mode="json", exclude={"name", "source"}) | {"name": request.name or dataset_id}
    if request.source is not None:
        document |= sources.arriving(tx, caller, request.source)
        records.add(tx, datasets, caller.tenant, dataset_id, {"document": document, "sha256": ""})
        refuse_over_quota(tx, caller)
        return sources.enqueue(tx, caller, dataset_id, request.source)
    stored = uploads.finished(tx, caller, request.upload)
    document |= {"size_bytes": stored.size_bytes}
    records.add(tx, datasets, caller.tenant, dataset_id, {"document": document, "sha256": stored.sha256})
    refuse_over_quota(tx, caller)
    limit_s, trace = caller.resources.settings.check_seconds, caller.trace
    ticket = work.Ticket(dataset_id, caller.tenant, WorkKind.CHECK_DATASET, Queue.CHECKS, limit_s, trace=trace)
    work.enqueue(tx, ticket)
    return ticket


def read(caller: Caller, dataset_id: str) -> Dataset:
    """Return a data set; raises NotFound."""
    with caller.resources.database.reading() as tx:
        return dataset_of(records.get(tx, datasets, caller.tenant, dataset_id))


def page(caller: Caller, cursor: records.Cursor) -> Page[Dataset]:
    """Return one page of the tenant's data sets, newest first."""
    with caller.resources.database.reading() as tx:
        rows = records.page(tx, datasets, caller.tenant, cursor)
    shown = [dataset_of(row) for row in rows[: cursor.limit]]
    return Page[Dataset](items=shown, next=shown[-1].id if len(rows) > cursor.limit else None)


def remove(caller: Caller, dataset_id: str) -> None:
    """Delete a data set; raises Conflict while a job that has not ended uses it."""
    with caller.resources.database.transaction() as tx:
        records.get(tx, datasets, caller.tenant, dataset_id)
        for row in records.alive(tx, jobs, caller.tenant):
            if row["document"].get("dataset") == dataset_id:
                msg = f"{row['id']} uses the data set and has not ended. Cancel it, or wait for its end."
                raise Conflict(msg)
        records.remove(tx, datasets, dataset_id)


def dataset_of(row: records.Record) -> Dataset:
    """Return the contract of a row."""
    return Dataset(
        id=row["id"],
        **{name: value for name, value in row["document"].items() if name != "upload"},
        state=check_state(row["state"]),
        stage=row["stage"],
        progress=row["progress"],
        sha256=row["sha256"] or None,
        created_at=timestamp(row["created_at"]),
        summary=row["summary"],
        error=row["error"],
    )
