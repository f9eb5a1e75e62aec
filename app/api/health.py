"""`/healthz`, `/readyz`, `/metrics`: for probes and Prometheus, without a key and without anything secret."""

from collections.abc import Iterable, Iterator

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.envelope import Served
from app.contracts.base import Contract
from app.errors import DependencyUnavailable
from app.resources import Resources
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


class Figures:
    """This process' counters; queue figures come from the database at each scrape."""

    def __init__(self, resources: Resources) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("modelpress_requests", "requests answered", labels, registry=self.registry)
        self._seconds = Histogram(
            "modelpress_request_seconds", "time to the end of the answer", ("method", "route"), registry=self.registry
        )
        self.registry.register(_Queues(resources))

    def count(self, served: Served) -> None:
        """Count one answered request."""
        self._requests.labels(served.method, served.route, str(served.status)).inc()
        self._seconds.labels(served.method, served.route).observe(served.seconds)


class _Queues(Collector):
    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def describe(self) -> Iterable[Metric]:
        return []  # keeps registration from scraping the database

    def collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("modelpress_queue_depth", "unfinished work", labels=("queue", "state"))
        age = GaugeMetricFamily("modelpress_queue_age_seconds", "age of the oldest", labels=("queue", "state"))
        try:
            rows = health.queues(self._resources)
        except DependencyUnavailable:
            return
        for row in rows:
            depth.add_metric((row["queue"], row["state"]), row["count"])
            age.add_metric((row["queue"], row["state"]), row["oldest_s"])
        yield depth
        yield age
