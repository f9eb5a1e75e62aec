"""Benchmarks: an artifact timed against another model by a worker."""

from app.contracts.base import Page, new_id
from app.contracts.benchmark import Benchmark, BenchmarkCreate
from app.contracts.tasks import Queue, WorkKind
from app.errors import BadInput
from app.services.artifacts import artifact_of
from app.services.caller import Caller, timestamp
from app.services.quotas import refuse_over_quota
from app.services.recipes import model_faults
from app.stores import records, work
from app.stores.tables import artifacts, benchmarks

_LOADING_S = 600  # beyond the timing itself: two models loaded once per combination, and profiled


def create(caller: Caller, artifact_id: str, spec: BenchmarkCreate) -> Benchmark:
    """Record a benchmark and ring for it; `against` is by default the artifact's original."""
    benchmark_id = new_id("bmk")
    queue = Queue.GPU if spec.provider == "cuda" else Queue.CPU
    max_run_s = int(spec.max_seconds) + _LOADING_S
    ticket = work.Ticket(benchmark_id, caller.tenant, WorkKind.BENCHMARK, queue, max_run_s, trace=caller.trace)
    with caller.resources.database.transaction() as tx:
        artifact = artifact_of(records.get(tx, artifacts, caller.tenant, artifact_id))
        against = spec.against or artifact.model
        faults = list(model_faults(tx, caller, "/against", against))
        if spec.variant not in artifact.variants:
            faults.append(("/variant", f"the artifact has {', '.join(artifact.variants)}"))
        if faults:
            raise BadInput(f"{faults[0][0]}: {faults[0][1]}", errors=faults)
        refuse_over_quota(tx, caller)
        document = {"against": against, "spec": spec.model_dump(mode="json")}
        columns = {"document": document, "artifact_id": artifact_id}
        records.add(tx, benchmarks, caller.tenant, benchmark_id, columns)
        work.enqueue(tx, ticket)
        benchmark = benchmark_of(records.get(tx, benchmarks, caller.tenant, benchmark_id))
    caller.resources.broker.ring(ticket.kind, benchmark_id, queue, ticket.trace)
    return benchmark


def read(caller: Caller, benchmark_id: str) -> Benchmark:
    """Return a benchmark; raises NotFound."""
    with caller.resources.database.reading() as tx:
        return benchmark_of(records.get(tx, benchmarks, caller.tenant, benchmark_id))


def page(caller: Caller, cursor: records.Cursor, artifact_id: str) -> Page[Benchmark]:
    """Return one page of an artifact's benchmarks, newest first."""
    with caller.resources.database.reading() as tx:
        records.get(tx, artifacts, caller.tenant, artifact_id)
        rows = records.page(tx, benchmarks, caller.tenant, cursor, {"artifact_id": artifact_id})
    shown = [benchmark_of(row) for row in rows[: cursor.limit]]
    return Page[Benchmark](items=shown, next=shown[-1].id if len(rows) > cursor.limit else None)


def benchmark_of(row: records.Record) -> Benchmark:
    """Return the contract of a row."""
    return Benchmark(
        id=row["id"],
        artifact=row["artifact_id"],
        **row["document"],
        state=row["state"],
        result=row["result"],
        error=row["error"],
        created_at=timestamp(row["created_at"]),
    )
