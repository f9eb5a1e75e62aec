"""The way from a version in MLflow's registry to a compressed one: a delivery brings a model, its job waits for it.

Asks no registry: a worker pulls the version, and another one registers the result. Knows no HTTP.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.contracts.base import new_id
from app.contracts.job import JobCreate
from app.contracts.model import ModelCreate
from app.contracts.source import MlflowSource
from app.contracts.trigger import JOB_TAG, Delivery, RegistryLoop, Trigger
from app.errors import BadInput
from app.services import jobs, models
from app.services.caller import Caller
from app.stores import records, registrations, work

EVENTS = frozenset({"model_version.created", "model_version_alias.created", "model_version_tag.set"})
_RESULT_TAGS = re.compile(r"modelpress\.")


@dataclass(frozen=True)
class Delivered:
    """A verified delivery of MLflow's, and the key that keeps it at one job."""

    trigger: Trigger
    event: str
    payload: Mapping[str, Any]
    key: str


def start(caller: Caller, delivered: Delivered, request_of: Callable[[str], JobCreate]) -> Delivery:
    """Record the version's model and the job that waits for it; tell why not, if not.

    What a retry may cure is raised, as by any submission.
    """
    loop, trigger = delivered.trigger.mlflow, delivered.trigger
    if loop is None or delivered.event not in EVENTS:
        return Delivery(accepted=False, reason="the event names no version to compress")
    source = _source(loop, delivered.payload)
    if source is None or source.version is None:
        return Delivery(accepted=False, reason="the delivery names no version of a registered model")
    if _is_ours(caller, source, delivered):
        return Delivery(accepted=False, reason="the version is one that this service registered")
    model_id = new_id("mdl")
    create = ModelCreate(source=source, name=f"{source.name} {source.version}"[:200])

    def brings(tx: records.Transaction) -> work.Ticket:
        return models.record(tx, caller, model_id, create)

    def after(tx: records.Transaction, job_id: str) -> None:
        _expect(tx, caller, job_id, source, loop)

    try:
        origin = jobs.Origin(delivered.key, trigger.id, brings, after)
        submission = jobs.submit(caller, request_of(model_id), origin)
    except BadInput as error:
        return Delivery(accepted=False, reason=error.detail)
    return Delivery(accepted=True, job=submission.job.id)


def _source(loop: RegistryLoop, payload: Mapping[str, Any]) -> MlflowSource | None:
    named = {"name": payload.get("name"), "version": str(payload.get("version", ""))}
    try:
        return MlflowSource.model_validate({"type": "mlflow", "server": loop.server, **named})
    except ValidationError:
        return None


def _is_ours(caller: Caller, source: MlflowSource, delivered: Delivered) -> bool:
    """Return whether the version is a result: by its tags where the delivery has them, else by what was recorded."""
    tags = delivered.payload.get("tags")
    tagged = isinstance(tags, dict) and JOB_TAG in tags
    # Setting one of our tags on a version of somebody else's by hand starts nothing either.
    if tagged or (delivered.event == "model_version_tag.set" and _RESULT_TAGS.match(str(delivered.payload.get("key")))):
        return True
    with caller.resources.database.reading() as tx:
        return registrations.is_ours(tx, source.server, source.name, source.version or "")


def _expect(tx: records.Transaction, caller: Caller, job_id: str, source: MlflowSource, loop: RegistryLoop) -> None:
    result = loop.result
    if result is None or source.version is None:
        return
    named = result.name.replace("{name}", source.name)
    wanted = registrations.Registration(
        job_id=job_id,
        tenant=caller.tenant,
        server=source.server,
        source_name=source.name,
        source_version=source.version,
        result_name=named,
        alias=result.alias,
        tags=result.tags,
    )
    registrations.expect(tx, wanted)
