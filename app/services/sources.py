"""Models and data sets that are pulled from where they live: what may be named, and the work of pulling it.

Asks no source: that is a worker's part, which may reach out.
"""

from collections.abc import Mapping
from typing import Any

from app import formats
from app.contracts.source import HttpsSource, S3Source, Source, origin_of
from app.contracts.tasks import Queue, WorkKind
from app.errors import BadInput
from app.outside import Named
from app.services import quotas
from app.services.addresses import refuse_forbidden
from app.services.caller import Caller
from app.stores import fetches, records, work

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
    ticket = work.Ticket(row_id, caller.tenant, WorkKind.FETCH, Queue.EGRESS, seconds, trace=caller.trace)
    work.enqueue(tx, ticket)
    fetches.begin(tx, row_id, source)
    return ticket


def _refuse_unusable(caller: Caller, source: Source) -> None:
    settings = caller.resources.settings
    if isinstance(source, HttpsSource):
        refuse_forbidden(source.url, settings, f"{_POINTER}/url")
        formats.refuse_unsafe_name(source.url.path)
        return
    if isinstance(source, S3Source):
        formats.refuse_unsafe_name(source.key)
        _refuse_unnamed(caller, settings.source_stores, source.store, f"{_POINTER}/store")
    else:
        refuse_unknown_server(caller, source.server, f"{_POINTER}/server")


def refuse_unknown_server(caller: Caller, name: str, pointer: str) -> None:
    """Raise BadInput for an MLflow server that this tenant may not name."""
    _refuse_unnamed(caller, caller.resources.settings.mlflow_servers, name, pointer)


def _refuse_unnamed(caller: Caller, known: Mapping[str, Named], name: str, pointer: str) -> None:
    # A gateway that was told of none leaves the question to the worker that was.
    if known and not (name in known and known[name].serves(caller.tenant)):
        said = f"there is no {pointer.rpartition('/')[2]} of this name for this tenant"
        raise BadInput(f"{pointer}: {said}", errors=[(pointer, said)])
