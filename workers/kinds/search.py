"""A search for a goal: looks at the model and its data, and keeps what it saw. What follows is decided elsewhere."""

from pathlib import Path

from app.contracts.goal import Goal
from app.contracts.job import JobCreate
from app.contracts.tasks import LOGITS, Done, SurveyOrder
from app.errors import ServiceFault
from app.resources import Resources
from app.stores import inputs, searches
from app.stores.records import Transaction
from app.stores.work import Claim
from workers.kinds.base import Kind, Record, missing_answer, place_dataset, place_model
from workers.planning.ladder import lowering, narrowing
from workers.scratch import has_made, made_by_child


def goal_of(job: JobCreate) -> Goal:
    """Return what a search looks for."""
    if job.goal is None:
        raise ServiceFault("A job without a goal was taken for a search.")
    return job.goal


def _prepare(resources: Resources, held: Claim, folder: Path) -> SurveyOrder:
    settings = resources.settings
    with resources.database.reading() as tx:
        job = inputs.job_request(tx, held.tenant, held.id)
        model = inputs.checked_model(tx, held.tenant, job.model)
        dataset = inputs.dataset_file(tx, held.tenant, job.dataset) if job.dataset else None
    return SurveyOrder(
        model=place_model(resources, model, folder, "model"),
        dataset=place_dataset(resources, dataset, folder) if dataset else None,
        task=job.task,
        goal=goal_of(job),
        low=lowering(goal_of(job)),
        narrow=narrowing(),
        seed=job.seed,
        device=settings.device if job.device == "auto" else job.device,
        threads=settings.threads,
    )


def _publish(resources: Resources, held: Claim, done: Done, folder: Path) -> Record:
    if done.survey is None:
        raise missing_answer()
    survey = done.survey.model_copy(update={"logits": _stored(resources, folder)})
    with resources.database.reading() as tx:
        budget_s = goal_of(inputs.job_request(tx, held.tenant, held.id)).budget_s

    def record(tx: Transaction) -> None:
        searches.keep_survey(tx, held.id, survey, budget_s)

    return record


def _stored(resources: Resources, folder: Path) -> str | None:
    """Store what the original answered, if it was asked; return the digest."""
    if not has_made(folder, LOGITS):
        return None
    with made_by_child(folder, LOGITS) as file:
        return resources.blobs.put_open(file).sha256


KIND = Kind(_prepare, _publish)
