"""A compression job: publishes the packed and the dense file, the artifact and the report."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.contracts.artifact import Artifact, Variant, VariantName
from app.contracts.base import new_id
from app.contracts.job import Guard, JobCreate
from app.contracts.report import Report
from app.contracts.tasks import LOGITS, CompressOrder, Done, InputModel
from app.errors import ArtifactCorrupt, ArtifactMissing
from app.resources import Resources
from app.stores import inputs, results, searches
from app.stores.records import Transaction
from app.stores.work import Claim
from workers.kinds.base import Kind, Record, keep, missing_answer, place_dataset, place_model

log = structlog.get_logger(__name__)

_VARIANTS: tuple[VariantName, ...] = ("packed", "dense")


def _prepare(resources: Resources, held: Claim, folder: Path) -> CompressOrder:
    settings = resources.settings
    with resources.database.reading() as tx:
        job = inputs.job_request(tx, held.tenant, held.id)
        model = inputs.checked_model(tx, held.tenant, job.model)
        dataset = inputs.dataset_file(tx, held.tenant, job.dataset) if job.dataset else None
        named = {name: inputs.checked_model(tx, held.tenant, name) for name in job.recipe.models} if job.recipe else {}
        goal = inputs.job_request(tx, held.tenant, held.parent_id).goal if held.parent_id else None
        logits = searches.logits_of(tx, held.parent_id) if held.parent_id else None
    placed: dict[str, InputModel] = {
        name: place_model(resources, checked, folder, name) for name, checked in named.items()
    }
    return CompressOrder(
        model=place_model(resources, model, folder, "model"),
        dataset=place_dataset(resources, dataset, folder) if dataset else None,
        models=placed,
        task=job.task,
        recipe=job.recipe,
        guard=job.guard,
        explained=Guard(metric=goal.metric_of(job.task), max_drop=goal.max_drop) if goal else None,
        seed=job.seed,
        device=settings.device if job.device == "auto" else job.device,
        threads=settings.threads,
        checkpoint_every_s=settings.checkpoint_every_s,
        logits=_placed(resources, logits, folder) if logits else None,
    )


def _placed(resources: Resources, logits: str, folder: Path) -> str | None:
    """Fetch what the search's survey has left; without it the candidate asks the original by itself."""
    path = f"in/{LOGITS}"
    try:
        resources.blobs.fetch(logits, folder / path)
    except (ArtifactCorrupt, ArtifactMissing) as error:
        log.warning("logits unusable", why=error.slug)
        return None
    return path


def _publish(resources: Resources, held: Claim, done: Done, folder: Path) -> Record:
    report = done.report
    if report is None:
        raise missing_answer()
    with resources.database.reading() as tx:
        job = inputs.job_request(tx, held.tenant, held.id)
    kept = {name: keep(resources, folder, f"{name}.onnx") for name in _VARIANTS}
    variants = {
        name: Variant(
            sha256=one.stored.sha256,
            size_bytes=one.stored.size_bytes,
            zstd_bytes=one.zstd.size_bytes,
            packaging="zip" if one.zipped else "onnx",
            zstd_sha256=one.zstd.sha256,
        )
        for name, one in kept.items()
    }
    artifact = _artifact(held.id, job, report, variants)

    def record(tx: Transaction) -> None:
        results.record_artifact(tx, held.tenant, artifact, report)

    return record


def _artifact(job_id: str, job: JobCreate, report: Report, variants: dict[VariantName, Variant]) -> Artifact:
    return Artifact(
        id=new_id("art"),
        job=job_id,
        model=job.model,
        dataset=job.dataset,
        recipe=job.recipe,
        seed=job.seed,
        variants=variants,
        encodings=dict(sorted(Counter(tensor.encoding for tensor in report.tensors).items())),
        measurement=report.after,
        verdict=report.verdict,
        created_at=datetime.now(UTC),
    )


KIND = Kind(_prepare, _publish)
