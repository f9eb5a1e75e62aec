"""What making a model and making a data set have in common: three kinds of body, and `Prefer: wait`."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from app.api import bodies, digests
from app.api.problems import MEDIA_TYPE, documented
from app.api.validation import parse, validated
from app.contracts.base import Contract
from app.contracts.dataset import Dataset
from app.contracts.model import CheckState, Model
from app.errors import (
    BadInput,
    Conflict,
    FormatUnsafe,
    PayloadTooLarge,
    QuotaExceeded,
    ServiceBusy,
    StorageQuotaExceeded,
    UnsupportedEncoding,
)
from app.formats import refuse_unsafe_name
from app.services import uploads
from app.services.caller import Caller

REFUSALS = documented(
    BadInput,
    Conflict,
    FormatUnsafe,
    PayloadTooLarge,
    QuotaExceeded,
    ServiceBusy,
    StorageQuotaExceeded,
    UnsupportedEncoding,
)
_JSON_BYTES = 1 << 20
_MAX_WAIT_S = 60
_POLL_S = 0.2
_RETRY_AFTER_S = 1
Body = TypeVar("Body", bound=Contract)


async def requested(request: Request, caller: Caller, kind: type[Body], query: Mapping[str, str | None]) -> Body:
    """Return what to make: from JSON that names an upload, or from a raw or form body that is stored first."""
    given = {name: value for name, value in query.items() if value is not None}
    match bodies.media_type(request):
        case "application/json":
            if given:
                msg = f"`{next(iter(given))}` belongs into the JSON body, not into the query."
                raise BadInput(msg)
            return parse(kind, await bodies.small(request, _JSON_BYTES))
        case "application/octet-stream":
            return await _raw(request, caller, kind, given)
        case "multipart/form-data":
            return await _form(request, caller, kind, given)
    msg = "Send application/json that names an upload, application/octet-stream, or multipart/form-data."
    raise UnsupportedEncoding(msg)


async def _raw(request: Request, caller: Caller, kind: type[Body], given: Mapping[str, str]) -> Body:
    refuse_unsafe_name(given.get("name"))
    validated(kind, {**given, "upload": _placeholder()})  # refuse before the bytes travel
    arriving = digests.verified(bodies.chunks(request), digests.stated(request))
    upload = await uploads.receive(caller, arriving, _limit(request, caller))
    return validated(kind, {**given, "upload": upload.id})


async def _form(request: Request, caller: Caller, kind: type[Body], given: Mapping[str, str]) -> Body:
    form = bodies.Form(request)
    upload = await uploads.receive(caller, form.file(), _limit(request, caller))
    named = {"name": form.file_name} if form.file_name else {}
    return validated(kind, {**named, **given, **form.document(), "upload": upload.id})


def _placeholder() -> str:
    return f"upl_{'0' * 26}"


def _limit(request: Request, caller: Caller) -> int:
    limit = caller.resources.settings.max_upload_bytes
    length = request.headers.get("content-length", "0")
    uploads.refuse_longer(int(length) if length.isdigit() else 0, limit)
    return limit


async def created(
    request: Request, prefer: str | None, item: Model | Dataset, path: str, read: Callable[[], Model | Dataset]
) -> Response:
    """Answer 202 at once; with `Prefer: wait=N`, 201 or the rejection when the check ends within N seconds."""
    headers = {"Location": path}
    wait_s = wait_of(prefer or "")
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
        item = await _settled(item, read, wait_s)
    if item.state == CheckState.READY:
        return Response(item.model_dump_json(), 201, headers, "application/json")
    if item.state == CheckState.REJECTED and item.error is not None:
        problem = item.error.model_copy(update={"instance": request.state.request_id})
        return Response(problem.model_dump_json(), problem.status, headers, MEDIA_TYPE)
    headers["Retry-After"] = str(_RETRY_AFTER_S)
    return Response(item.model_dump_json(), 202, headers, "application/json")


def wait_of(prefer: str) -> int:
    """Return the seconds of `wait=N` in a Prefer header (RFC 7240), at most 60; 0 when there is none."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", prefer)
    return min(int(found[1]), _MAX_WAIT_S) if found else 0


async def _settled(item: Model | Dataset, read: Callable[[], Model | Dataset], wait_s: int) -> Model | Dataset:
    deadline = asyncio.get_running_loop().time() + wait_s
    while item.state == CheckState.CHECKING and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_POLL_S)
        item = await asyncio.to_thread(read)
    return item


def body_of(kind: type[Contract]) -> dict[str, object]:
    """Return the OpenAPI description of the three bodies."""
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["file"], "properties": {"file": binary, "name": {"type": "string"}}}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}},
                "application/octet-stream": {"schema": binary},
                "multipart/form-data": {"schema": form},
            },
        }
    }
