"""Models: made of stored bytes, checked by a worker, listed, deleted. Opens no model."""

from app import formats
from app.contracts.base import Page, new_id
from app.contracts.job import JobState
from app.contracts.model import CheckState, Model, ModelCreate
from app.services import arrivals
from app.services.arrivals import Arrival
from app.services.caller import Caller, timestamp
from app.stores import records, work
from app.stores.tables import models


def create(caller: Caller, request: ModelCreate) -> Model:
    """Record a model of a finished upload, or one to be pulled, and have it checked; the answer is `checking`."""
    model_id = new_id("mdl")
    with caller.resources.database.transaction() as tx:
        ticket = record(tx, caller, model_id, request)
        model = model_of(records.get(tx, models, caller.tenant, model_id))
    caller.resources.broker.ring(ticket.kind, model_id, ticket.queue, ticket.trace)
    return model


def record(tx: records.Transaction, caller: Caller, model_id: str, request: ModelCreate) -> work.Ticket:
    """Record a new model and the work on it; return the ticket to ring for after the commit."""
    formats.refuse_unsafe_name(request.name)
    document = {"name": request.name or model_id, "format": request.format, "tags": request.tags}
    most = caller.resources.settings.max_model_bytes
    return arrivals.record(tx, caller, Arrival(models, model_id, document, most), request)


def read(caller: Caller, model_id: str) -> Model:
    """Return a model; raises NotFound."""
    with caller.resources.database.reading() as tx:
        return model_of(records.get(tx, models, caller.tenant, model_id))


def page(caller: Caller, cursor: records.Cursor) -> Page[Model]:
    """Return one page of the tenant's models, newest first."""
    with caller.resources.database.reading() as tx:
        rows = records.page(tx, models, caller.tenant, cursor)
    shown = [model_of(row) for row in rows[: cursor.limit]]
    return Page[Model](items=shown, next=shown[-1].id if len(rows) > cursor.limit else None)


def remove(caller: Caller, model_id: str) -> None:
    """Delete a model; raises Conflict while unfinished work or a trigger needs it."""
    arrivals.remove(caller, models, model_id)


def model_of(row: records.Record) -> Model:
    """Return the contract of a row."""
    return Model(
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


def check_state(state: str) -> CheckState:
    """Return what the state of the checking work says about the upload."""
    if not JobState(state).final:
        return CheckState.CHECKING
    return CheckState.READY if state == JobState.SUCCEEDED else CheckState.REJECTED
