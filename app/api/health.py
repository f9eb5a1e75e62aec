"""`/healthz`, `/readyz`, `/metrics`: for probes and Prometheus, without a key and without anything secret."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.contracts.base import Contract
from app.services import health

router = APIRouter(tags=["health"])


class Health(Contract):
    """The process answers."""

    status: str = "ok"


class Ready(Contract):
    """Which parts answer. `sandbox` is the level that the latest compute child reached."""

    ready: bool
    database: bool
    blobs: bool
    broker: bool
    sandbox: str | None


@router.get("/healthz")
async def healthz() -> Health:
    """Tell that the process is alive; asks nothing else."""
    return Health()


@router.get("/readyz", response_model=Ready, responses={503: {"model": Ready, "description": "not ready"}})
def readyz(request: Request) -> Response:
    """Tell whether requests can be served."""
    found = health.readiness(request.app.state.resources)
    ready = found.ready and not request.app.state.stopping.is_set()
    body = Ready(
        ready=ready,
        database=found.database,
        blobs=found.blobs,
        broker=found.broker,
        sandbox=found.sandbox,
    )
    return JSONResponse(body.model_dump(), 200 if ready else 503)


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Expose request and queue figures in Prometheus' text format."""
    return Response(generate_latest(request.app.state.figures.registry), media_type=CONTENT_TYPE_LATEST)
