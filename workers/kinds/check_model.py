"""Check of an uploaded model: publishes the imported ONNX file, the tokenizer and the summary."""

from pathlib import Path

from app.contracts.tasks import CheckModelOrder, Done
from app.resources import Resources
from app.stores import inputs, results
from app.stores.records import Transaction
from app.stores.work import Claim
from workers.kinds.base import Kind, Record, keep, missing_answer
from workers.scratch import has_made


def _prepare(resources: Resources, held: Claim, folder: Path) -> CheckModelOrder:
    with resources.database.reading() as tx:
        found = inputs.uploaded_model(tx, held.tenant, held.id)
    path = "in/model.onnx" if found.format == "onnx" else "in/model.zip"
    resources.blobs.fetch(found.sha256, folder / path)
    settings = resources.settings
    return CheckModelOrder(
        path=path,
        format=found.format,
        threads=settings.threads,
        max_unpacked_bytes=settings.max_unpacked_model_bytes,
    )


def _publish(resources: Resources, held: Claim, done: Done, folder: Path) -> Record:
    summary = done.model
    if summary is None:
        raise missing_answer()
    onnx = keep(resources, folder, "model.onnx").stored.sha256
    tokenizer = keep(resources, folder, "tokenizer.json").stored.sha256 if has_made(folder, "tokenizer.json") else None

    def record(tx: Transaction) -> None:
        results.record_model(tx, held.id, summary, onnx, tokenizer)

    return record


KIND = Kind(_prepare, _publish)
