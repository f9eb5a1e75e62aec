"""`/v1/artifacts`, without the bytes."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.api.access import ID_LIKE, CallerGiven, CursorGiven
from app.api.problems import documented
from app.contracts.artifact import Artifact
from app.contracts.base import Page
from app.contracts.benchmark import Benchmark, BenchmarkCreate
from app.errors import BadInput, Conflict, NotFound, QuotaExceeded, ServiceBusy
from app.services import artifacts, benchmarks

router = APIRouter(tags=["artifacts"])


@router.get("/artifacts")
def list_artifacts(
    caller: CallerGiven,
    cursor: CursorGiven,
    model: Annotated[str | None, Query(pattern=ID_LIKE)] = None,
    job: Annotated[str | None, Query(pattern=ID_LIKE)] = None,
) -> Page[Artifact]:
    """List artifacts, newest first."""
    return artifacts.page(caller, cursor, model, job)


@router.get("/artifacts/{artifact_id}", responses=documented(NotFound))
def read_artifact(caller: CallerGiven, artifact_id: str) -> Artifact:
    """Read an artifact: digests, sizes, encodings, figures, recipe, parents."""
    return artifacts.read(caller, artifact_id)


@router.post(
    "/artifacts/{artifact_id}/benchmarks",
    status_code=202,
    response_model=Benchmark,
    responses=documented(NotFound, BadInput, Conflict, QuotaExceeded, ServiceBusy),
)
def create_benchmark(caller: CallerGiven, artifact_id: str, create: BenchmarkCreate) -> Response:
    """Time the artifact against its original, or another model, interleaved in one run."""
    benchmark = benchmarks.create(caller, artifact_id, create)
    headers = {"Location": f"/v1/benchmarks/{benchmark.id}", "Retry-After": "2"}
    return Response(benchmark.model_dump_json(), 202, headers, "application/json")


@router.get("/artifacts/{artifact_id}/benchmarks", responses=documented(NotFound))
def list_benchmarks(caller: CallerGiven, artifact_id: str, cursor: CursorGiven) -> Page[Benchmark]:
    """List an artifact's benchmarks, newest first."""
    return benchmarks.page(caller, cursor, artifact_id)


@router.get("/benchmarks/{benchmark_id}", responses=documented(NotFound), tags=["benchmarks"])
def read_benchmark(caller: CallerGiven, benchmark_id: str) -> Benchmark:
    """Read a benchmark; `result` is there once it has succeeded."""
    return benchmarks.read(caller, benchmark_id)
