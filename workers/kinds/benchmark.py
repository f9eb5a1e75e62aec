"""Benchmark of an artifact against a model: publishes the figures."""

from pathlib import Path

from app.contracts.tasks import BenchmarkOrder, Done
from app.resources import Resources
from app.stores import inputs, results
from app.stores.records import Transaction
from app.stores.work import Claim
from workers.kinds.base import Kind, Record, missing_answer


def _prepare(resources: Resources, held: Claim, folder: Path) -> BenchmarkOrder:
    with resources.database.reading() as tx:
        spec, candidate, original = inputs.benchmark_request(tx, held.tenant, held.id)
    order = BenchmarkOrder(candidate="in/candidate.onnx", original="in/original.onnx", spec=spec)
    resources.blobs.fetch(candidate, folder / order.candidate)
    resources.blobs.fetch(original, folder / order.original)
    return order


def _publish(_resources: Resources, held: Claim, done: Done, _folder: Path) -> Record:
    result = done.benchmark
    if result is None:
        raise missing_answer()

    def record(tx: Transaction) -> None:
        results.record_benchmark(tx, held.id, result)

    return record


KIND = Kind(_prepare, _publish)
