"""What a piece of work publishes, each in the transaction that ends it. Bytes are stored before their digests."""

from typing import Any

from sqlalchemy import Connection, Table, update

from app.contracts.artifact import Artifact
from app.contracts.benchmark import BenchmarkResult
from app.contracts.dataset import DatasetSummary
from app.contracts.model import ModelSummary
from app.contracts.report import Report
from app.stores.database import now
from app.stores.tables import artifacts, benchmarks, datasets, jobs, models


def record_model(tx: Connection, model_id: str, summary: ModelSummary, onnx: str, tokenizer: str | None) -> None:
    """Record what the check found and the digests of the ONNX file and the tokenizer."""
    values = {"summary": summary.model_dump(mode="json"), "onnx_sha256": onnx, "tokenizer_sha256": tokenizer}
    _update(tx, models, model_id, values)


def record_dataset(tx: Connection, dataset_id: str, summary: DatasetSummary) -> None:
    """Record what the check found."""
    _update(tx, datasets, dataset_id, {"summary": summary.model_dump(mode="json")})


def record_artifact(tx: Connection, tenant: str, artifact: Artifact, report: Report) -> None:
    """Record a job's artifact and report."""
    document = artifact.model_dump(mode="json")
    tx.execute(
        artifacts.insert().values(
            id=artifact.id, tenant=tenant, created_at=now(), document=document, job_id=artifact.job
        )
    )
    _update(tx, jobs, artifact.job, {"artifact_id": artifact.id, "report": report.model_dump(mode="json")})


def record_outcome(tx: Connection, job_id: str, report: Report, artifact_id: str) -> None:
    """Record what a search came to: its report, and the artifact of the candidate that it recommends."""
    _update(tx, jobs, job_id, {"artifact_id": artifact_id, "report": report.model_dump(mode="json")})


def record_report(tx: Connection, job_id: str, report: Report) -> None:
    """Record the report of a job that published nothing."""
    _update(tx, jobs, job_id, {"report": report.model_dump(mode="json")})


def record_benchmark(tx: Connection, benchmark_id: str, result: BenchmarkResult) -> None:
    """Record a benchmark's figures."""
    _update(tx, benchmarks, benchmark_id, {"result": result.model_dump(mode="json")})


def _update(tx: Connection, table: Table, row_id: str, values: dict[str, Any]) -> None:
    tx.execute(update(table).where(table.c.id == row_id).values(**values))
