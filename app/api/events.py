"""`/v1/jobs/{id}/events`: a job's history, as a stream that ends with the job, or as pages."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.api.access import CallerGiven
from app.api.negotiation import chosen
from app.api.problems import documented
from app.contracts.base import Page
from app.contracts.job import Event
from app.errors import BadInput, NotAcceptable, NotFound
from app.services import jobs
from app.services.caller import Caller

router = APIRouter(prefix="/jobs", tags=["jobs"])
_POLL_S = 0.4
_HEARTBEAT_S = 10.0  # below the idle limits of common proxies (30 to 60 s)
_BATCH = 500
_RECONNECT_MS = 1_000


@router.get(
    "/{job_id}/events",
    response_model=Page[Event],
    responses={200: {"content": {"text/event-stream": {}}}, **documented(BadInput, NotFound, NotAcceptable)},
)
async def follow_job(
    request: Request,
    caller: CallerGiven,
    job_id: str,
    limit: Annotated[int, Query(ge=1, le=1000, description="events per page (JSON)")] = 200,
    after: Annotated[str | None, Query(pattern="^[0-9]{1,9}$", description="last event number that was seen")] = None,
) -> Response:
    """Follow a job: `text/event-stream` (the default) goes on to the final state; `application/json` is one page."""
    kind = chosen(request.headers.get("accept"), ["text/event-stream", "application/json"])
    seen = int(after or _last_event_id(request))
    if kind == "application/json":
        found, _ = await asyncio.to_thread(jobs.history, caller, job_id, seen, limit)
        page = Page[Event](items=found, next=str(found[-1].id) if len(found) == limit else None)
        return Response(page.model_dump_json(), media_type=kind, headers={"Vary": "Accept"})
    await asyncio.to_thread(jobs.read, caller, job_id)  # an unknown id is a 404, not an empty stream
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}
    return StreamingResponse(_stream(request, caller, job_id, seen), media_type=kind, headers=headers)


def _last_event_id(request: Request) -> str:
    value = request.headers.get("last-event-id", "0")
    return value if value.isascii() and value.isdecimal() and len(value) < 10 else "0"  # noqa: PLR2004 - as `after`


async def _stream(request: Request, caller: Caller, job_id: str, seen: int) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    yield f"retry: {_RECONNECT_MS}\n\n"
    spoken, ended = clock(), False
    while not ended and not request.app.state.stopping.is_set():
        found, ended = await asyncio.to_thread(jobs.history, caller, job_id, seen, _BATCH)
        for event in found:
            yield f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
        if found:
            seen, spoken = found[-1].id, clock()
        elif clock() - spoken > _HEARTBEAT_S:
            yield ": still here\n\n"
            spoken = clock()
        if not ended and len(found) < _BATCH:
            await asyncio.sleep(_POLL_S)
