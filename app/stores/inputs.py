"""What a piece of work starts from: the digests of its input blobs and its request, always inside the work's tenant.

Every function raises NotFound when a row was deleted before the work began.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from app.contracts.artifact import Artifact
from app.contracts.benchmark import BenchmarkCreate
from app.contracts.job import JobCreate
from app.contracts.model import ModelFormat, ModelSummary
from app.contracts.report import Report
from app.errors import Conflict
from app.stores import records
from app.stores.tables import artifacts, benchmarks, datasets, jobs, models


@dataclass(frozen=True)
class Uploaded:
    """An unchecked model as it came: digest and format."""

    sha256: str
    format: ModelFormat


@dataclass(frozen=True)
class Checked:
    """A checked model: digests of its ONNX file and tokenizer, and its class names."""

    onnx_sha256: str
    tokenizer_sha256: str | None
    classes: list[str]


@dataclass(frozen=True)
class DatasetFile:
    """A data set's digest and how to read it: format, columns, splits, max_length."""

    sha256: str
    reading: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What a job published: the packed file, how much smaller it is, and one metric before and after."""

    sha256: str
    zipped: bool
    size_ratio: float
    verdict: str
    metric: str | None
    before: float
    after: float


def uploaded_model(tx: Connection, tenant: str, model_id: str) -> Uploaded:
    """Return the upload of a model."""
    row = records.get(tx, models, tenant, model_id)
    return Uploaded(row["sha256"], row["document"]["format"])


def checked_model(tx: Connection, tenant: str, model_id: str) -> Checked:
    """Return a model's checked files. Raises Conflict when its check has not succeeded."""
    row = records.get(tx, models, tenant, model_id)
    if row["summary"] is None or row["onnx_sha256"] is None:
        raise Conflict(f"The model {model_id} has not passed its check.")
    summary = ModelSummary.model_validate(row["summary"])
    return Checked(row["onnx_sha256"], row["tokenizer_sha256"], summary.classes)


def dataset_file(tx: Connection, tenant: str, dataset_id: str) -> DatasetFile:
    """Return a data set's file."""
    row = records.get(tx, datasets, tenant, dataset_id)
    known = ("format", "columns", "splits", "max_length")
    return DatasetFile(row["sha256"], {name: row["document"][name] for name in known if name in row["document"]})


def job_request(tx: Connection, tenant: str, job_id: str) -> JobCreate:
    """Return what a job was asked to do."""
    document = records.get(tx, jobs, tenant, job_id)["document"]
    return JobCreate.model_validate({name: document[name] for name in JobCreate.model_fields if name in document})


def result_of(tx: Connection, tenant: str, job_id: str) -> Result:
    """Return what a job that succeeded has published."""
    job = records.get(tx, jobs, tenant, job_id)
    report, document = Report.model_validate(job["report"]), job["document"]
    packed = Artifact.model_validate(records.get(tx, artifacts, tenant, job["artifact_id"])["document"]).variants[
        "packed"
    ]
    before, after = (side.quality.scores if side.quality else {} for side in (report.before, report.after))
    asked = (document.get("guard") or document.get("goal") or {}).get("metric")
    metric = asked if asked in before else next((name for name in before if name in after), None)
    scores = (before[metric].value, after[metric].value) if metric in before and metric in after else (0.0, 0.0)
    ratio = report.before.file_bytes / packed.size_bytes
    return Result(packed.sha256, packed.packaging == "zip", ratio, report.verdict, metric, *scores)


def benchmark_request(tx: Connection, tenant: str, benchmark_id: str) -> tuple[BenchmarkCreate, str, str]:
    """Return what to time, the digest of the artifact's file, and the digest of the model to time it against."""
    row = records.get(tx, benchmarks, tenant, benchmark_id)
    asked = row["document"].get("spec", row["document"])
    known = {name: asked[name] for name in BenchmarkCreate.model_fields if name in asked}
    spec = BenchmarkCreate.model_validate(known)
    artifact = records.get(tx, artifacts, tenant, row["artifact_id"])["document"]
    against = row["document"].get("against") or spec.against or artifact["model"]
    return spec, artifact["variants"][spec.variant]["sha256"], checked_model(tx, tenant, against).onnx_sha256
