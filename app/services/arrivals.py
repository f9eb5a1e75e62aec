"""What models and data sets have in common: how they come, and that they stay while something needs them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.contracts.dataset import DatasetCreate
from app.contracts.model import ModelCreate
from app.contracts.tasks import Queue, WorkKind
from app.errors import Conflict, PayloadTooLarge
from app.services import sources, uploads
from app.services.caller import Caller
from app.services.quotas import refuse_over_quota
from app.stores import naming, records, work
from app.stores.tables import Noun, datasets, models

_CHECKS: Mapping[Noun, WorkKind] = {models: WorkKind.CHECK_MODEL, datasets: WorkKind.CHECK_DATASET}


@dataclass(frozen=True)
class Arrival:
    """A new model or data set, and what its document says beside where it comes from."""

    noun: Noun
    id: str
    document: Mapping[str, Any]
    max_bytes: int | None = None


def record(tx: records.Transaction, caller: Caller, new: Arrival, request: ModelCreate | DatasetCreate) -> work.Ticket:
    """Record it and the work of pulling or checking it; return the ticket to ring for after the commit."""
    if request.source is not None:
        document = {**new.document, **sources.arriving(tx, caller, request.source)}
        _add(tx, caller, new, document, "")
        return sources.enqueue(tx, caller, new.id, request.source)
    stored = uploads.finished(tx, caller, request.upload)
    if new.max_bytes is not None and stored.size_bytes > new.max_bytes:
        msg = f"Models may have up to {new.max_bytes} bytes."
        raise PayloadTooLarge(msg)
    document = {**new.document, "upload": request.upload, "size_bytes": stored.size_bytes}
    _add(tx, caller, new, document, stored.sha256)
    limit_s, trace = caller.resources.settings.check_seconds, caller.trace
    ticket = work.Ticket(new.id, caller.tenant, _CHECKS[new.noun], Queue.CHECKS, limit_s, trace=trace)
    work.enqueue(tx, ticket)
    return ticket


def remove(caller: Caller, noun: Noun, row_id: str) -> None:
    """Delete a model or a data set; raises Conflict while unfinished work or a trigger needs it."""
    with caller.resources.database.transaction() as tx:
        records.get(tx, noun, caller.tenant, row_id)
        needing = naming.needing(tx, caller.tenant, row_id)
        if needing is not None:
            cure = "Delete it first." if needing.startswith("trg_") else "Cancel it, or wait for its end."
            raise Conflict(f"{needing} needs it. {cure}")
        records.remove(tx, noun, row_id)


def _add(tx: records.Transaction, caller: Caller, new: Arrival, document: Mapping[str, Any], sha256: str) -> None:
    records.add(tx, new.noun, caller.tenant, new.id, {"document": document, "sha256": sha256})
    refuse_over_quota(tx, caller)
