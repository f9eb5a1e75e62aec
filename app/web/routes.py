"""The pages and their static files. Knows no service and no store: a page is a frame that its script fills."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from fastapi.templating import Jinja2Templates
from pydantic import StringConstraints, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from app.contracts.base import JobId

_HERE = Path(__file__).parent
_TEMPLATES = Jinja2Templates(_HERE / "templates")
_STATIC = StaticFiles(directory=_HERE / "static")
_JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)

StaticName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+\.(js|css|svg)$")]

router = APIRouter(include_in_schema=False)


@router.get("/")
def start(request: Request) -> Response:
    """Choose a model, data and a recipe."""
    return _TEMPLATES.TemplateResponse(request, "start.html")


@router.get("/jobs")
def jobs(request: Request) -> Response:
    """All jobs."""
    return _TEMPLATES.TemplateResponse(request, "jobs.html")


@router.get("/jobs/{job_id}")
def job(request: Request, job_id: str) -> Response:
    """One job, live."""
    return _of_job(request, "job.html", job_id)


@router.get("/jobs/{job_id}/result")
def result(request: Request, job_id: str) -> Response:
    """What a job achieved."""
    return _of_job(request, "result.html", job_id)


@router.get("/static/{name}")
async def static(request: Request, name: StaticName) -> Response:
    """Scripts, styles and the icon; answers 304 to a browser that has them."""
    response = await _STATIC.get_response(name, request.scope)
    # Always revalidated: a page and its scripts are of one version, also right after an update.
    response.headers["Cache-Control"] = "no-cache"
    return response


def _of_job(request: Request, template: str, job_id: str) -> Response:
    try:
        _JOB_ID.validate_python(job_id)
    except ValidationError:
        return _TEMPLATES.TemplateResponse(request, "missing.html", status_code=404)
    return _TEMPLATES.TemplateResponse(request, template, {"job_id": job_id})
