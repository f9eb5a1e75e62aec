"""`/v1/jobs`."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.api.access import ID_LIKE, CallerGiven, CursorGiven
from app.api.negotiation import chosen
from app.api.problems import documented
from app.contracts.base import Page
from app.contracts.job import Job, JobCreate, JobState
from app.contracts.report import Report
from app.errors import (
    BadInput,
    Conflict,
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    NotAcceptable,
    NotFound,
    QuotaExceeded,
    ServiceBusy,
    UrlForbidden,
)
from app.services import jobs, reports

router = APIRouter(prefix="/jobs", tags=["jobs"])
_RETRY_AFTER_S = 2
# The page is made of escaped text and its own style; nothing else may load.
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
_STATES = "|".join(JobState)
_GOAL_EXAMPLE = {
    "model": "mdl_01m85q06xaqs6n45zp0mxvne2w",
    "dataset": "dst_01m85q06xaqs6n45zp0mxvne2w",
    "goal": {"minimize": "latency", "max_drop": 0.01, "max_size_bytes": 1_000_000, "budget_s": 3600},
}
_EXAMPLE = {
    "model": "mdl_01m85q06xaqs6n45zp0mxvne2w",
    "dataset": "dst_01m85q06xaqs6n45zp0mxvne2w",
    "task": "classification",
    "recipe": {
        "steps": [
            {"technique": "prune_layers", "keep": 2},
            {"technique": "distill", "epochs": 2, "temperature": 2, "alpha": 0.5},
            {"technique": "quantize_int8", "mode": "dynamic"},
        ]
    },
    "guard": {"metric": "accuracy", "max_drop": 0.01},
}


@router.post(
    "",
    status_code=202,
    response_model=Job,
    responses=documented(
        BadInput, UrlForbidden, Conflict, IdempotencyKeyReused, IdempotencyKeyInFlight, QuotaExceeded, ServiceBusy
    ),
)
def create_job(
    caller: CallerGiven,
    create: Annotated[
        JobCreate, Body(openapi_examples={"text classifier": {"value": _EXAMPLE}, "goal": {"value": _GOAL_EXAMPLE}})
    ],
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=255, description="makes a repeated request safe")
    ] = None,
) -> Response:
    """Submit a job: a recipe to run on a checked model, or a goal that a recipe is searched for."""
    submission = jobs.submit(caller, create, jobs.Origin(key=idempotency_key))
    headers = {"Location": f"/v1/jobs/{submission.job.id}", "Retry-After": str(_RETRY_AFTER_S)}
    if submission.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(submission.job.model_dump_json(), 202, headers, "application/json")


@router.get("", responses=documented(BadInput))
def list_jobs(
    caller: CallerGiven,
    cursor: CursorGiven,
    state: Annotated[
        str | None, Query(pattern=f"^({_STATES})(,({_STATES}))*$", description="one state or several, comma-separated")
    ] = None,
    model: Annotated[str | None, Query(pattern=ID_LIKE)] = None,
    parent: Annotated[
        str | None, Query(pattern=ID_LIKE, description="a job with a goal: its candidates, and no other jobs")
    ] = None,
) -> Page[Job]:
    """List jobs, newest first; the candidates of a job with a goal are jobs too, and name it as `parent`."""
    return jobs.page(caller, cursor, {"state": state, "model": model, "parent": parent})


@router.get("/{job_id}", response_model=Job, responses=documented(NotFound))
async def read_job(caller: CallerGiven, job_id: str) -> Response:
    """Read a job."""
    # Followers ask this all the time. To change threads takes longer than to read a row of a local file, and the
    # framework would check once more what is one of ours.
    local = caller.resources.database.local
    job = jobs.read(caller, job_id) if local else await asyncio.to_thread(jobs.read, caller, job_id)
    return Response(job.model_dump_json(), media_type="application/json")


@router.post("/{job_id}/cancel", status_code=202, responses=documented(NotFound, Conflict))
def cancel_job(caller: CallerGiven, job_id: str) -> Job:
    """Ask for the job's end; it is `cancelled` within 10 seconds, and so are its candidates if it has a goal."""
    return jobs.cancel(caller, job_id)


@router.post("/{job_id}/resume", status_code=202, responses=documented(NotFound, Conflict, QuotaExceeded))
def resume_job(caller: CallerGiven, job_id: str) -> Job:
    """Let a failed or cancelled job go on from its checkpoint, with the whole of its time limit.

    409 when it has not ended, has succeeded, or left no checkpoint; the detail says what to do instead.
    """
    return jobs.resume(caller, job_id)


@router.get(
    "/{job_id}/report",
    response_model=Report,
    responses={
        200: {"content": {"text/html": {}, "text/markdown": {}}},
        **documented(NotFound, NotAcceptable, Conflict),
    },
)
def read_report(request: Request, caller: CallerGiven, job_id: str) -> Response:
    """Read the report: JSON, a page, or a Markdown model card, by Accept."""
    kind = chosen(request.headers.get("accept"), ["application/json", "text/html", "text/markdown"])
    story = reports.read(caller, job_id)
    vary = {"Vary": "Accept"}
    if kind == "text/html":
        return HTMLResponse(reports.html(story), headers=vary | {"Content-Security-Policy": _REPORT_POLICY})
    if kind == "text/markdown":
        return Response(reports.markdown(story), headers=vary, media_type="text/markdown; charset=utf-8")
    return Response(story.report.model_dump_json(), headers=vary, media_type=kind)
