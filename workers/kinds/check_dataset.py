"""Check of an uploaded data set: publishes its summary."""

from pathlib import Path

from app.contracts.tasks import CheckDatasetOrder, Done
from app.resources import Resources
from app.stores import inputs, results
from app.stores.records import Transaction
from app.stores.work import Claim
from workers.kinds.base import Kind, Record, missing_answer, place_dataset


def _prepare(resources: Resources, held: Claim, folder: Path) -> CheckDatasetOrder:
    with resources.database.reading() as tx:
        found = inputs.dataset_file(tx, held.tenant, held.id)
    return CheckDatasetOrder(dataset=place_dataset(resources, found, folder), threads=resources.settings.threads)


def _publish(_resources: Resources, held: Claim, done: Done, _folder: Path) -> Record:
    summary = done.dataset
    if summary is None:
        raise missing_answer()

    def record(tx: Transaction) -> None:
        results.record_dataset(tx, held.id, summary)

    return record


KIND = Kind(_prepare, _publish)
