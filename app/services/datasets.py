"""Data sets: made of stored bytes, checked by a worker, listed, deleted. Opens no data."""

from app import formats
from app.contracts.base import Page, new_id
from app.contracts.dataset import Dataset, DatasetCreate
from app.services import arrivals
from app.services.arrivals import Arrival
from app.services.caller import Caller, timestamp
from app.services.models import check_state
from app.stores import records
from app.stores.tables import datasets


def create(caller: Caller, request: DatasetCreate) -> Dataset:
    """Record a data set of a finished upload, or one to be pulled, and have it checked; the answer is `checking`."""
    formats.refuse_unsafe_name(request.name)
    dataset_id = new_id("dst")
    own = request.model_dump(mode="json", exclude={"name", "upload", "source"})
    document = own | {"name": request.name or dataset_id}
    with caller.resources.database.transaction() as tx:
        ticket = arrivals.record(tx, caller, Arrival(datasets, dataset_id, document), request)
        dataset = dataset_of(records.get(tx, datasets, caller.tenant, dataset_id))
    caller.resources.broker.ring(ticket.kind, dataset_id, ticket.queue, ticket.trace)
    return dataset


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
    """Delete a data set; raises Conflict while unfinished work or a trigger needs it."""
    arrivals.remove(caller, datasets, dataset_id)


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
