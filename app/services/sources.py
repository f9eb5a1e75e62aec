"""Models and data sets that are pulled from where they live: what may be named, and the work of pulling it.

Asks no source: that is a worker's part, which may reach out.
"""

from typing import Any

from app import formats
from app.contracts.source import HttpsSource, S3Source, origin_of
from app.contracts.tasks import Queue, WorkKind
from app.errors import BadInput
from app.services import quotas
from app.services.addresses import refuse_forbidden
from app.services.caller import Caller
from app.stores import fetches, records, work

Source = HttpsSource | S3Source
_POINTER = "/source"


def arriving(tx: records.Transaction, caller: Caller, source: Source) -> dict[str, Any]:
    """Return what the document of a model or a data set says of a source, before anything was pulled.

    Raises UrlForbidden, FormatUnsafe, StorageQuotaExceeded, and BadInput for a store that this tenant may not name.
    """
    _refuse_unusable(caller, source)
    quotas.refuse_more_bytes(tx, caller, 1)
    return {"origin": origin_of(source).model_dump(mode="json", exclude_none=True), "size_bytes": 0}


def enqueue(tx: records.Transaction, caller: Caller, row_id: str, source: Source) -> work.Ticket:
    """Record the work of pulling what `row_id` is made of; return the ticket to ring for after the commit."""
    seconds = caller.resources.settings.fetch_seconds
    ticket = work.Ticket(row_id, caller.tenant, WorkKind.FETCH, Queue.EGRESS, seconds)
    work.enqueue(tx, ticket)
    fetches.begin(tx, row_id, source)
    return ticket


def _refuse_unusable(caller: Caller, source: Source) -> None:
    settings = caller.resources.settings
    if isinstance(source, HttpsSource):
        refuse_forbidden(source.url, settings, f"{_POINTER}/url")
        formats.refuse_unsafe_name(source.url.path)
        return
    formats.refuse_unsafe_name(source.key)
    # A gateway that was not told of the stores leaves the question to the worker that was.
    if settings.source_stores and not _serves(caller, source):
        said = "there is no source store of this name for this tenant"
        raise BadInput(f"{_POINTER}/store: {said}", errors=[(f"{_POINTER}/store", said)])


def _serves(caller: Caller, source: S3Source) -> bool:
    store = caller.resources.settings.source_stores.get(source.store)
    return store is not None and store.serves(caller.tenant)
