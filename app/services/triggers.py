"""Triggers: a stored recipe or goal, and the signed deliveries that start it on a new model. Knows no HTTP."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from app import signatures
from app.contracts.base import Page, new_id
from app.contracts.job import JobCreate
from app.contracts.trigger import Delivery, Trigger, TriggerCreate, TriggerMatch
from app.errors import BadInput, SignatureInvalid
from app.resources import Resources
from app.services import jobs, loops
from app.services.addresses import refuse_forbidden
from app.services.caller import Caller, timestamp
from app.services.recipes import faults_of_goal
from app.services.sources import refuse_unknown_server
from app.stores import records
from app.stores.tables import Noun, datasets, models, triggers

_MODEL_ID = re.compile(r"mdl_[0-9a-z]{26}")
_SHORTEST_SECRET = 16
_log = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """What a delivery led to, and whether it had been delivered before."""

    delivery: Delivery
    replayed: bool = False


def create(caller: Caller, request: TriggerCreate) -> Trigger:
    """Store a trigger; the answer alone shows its secret."""
    refuse_forbidden(request.webhook, caller.resources.settings, "/webhook")
    if request.mlflow is not None:
        refuse_unknown_server(caller, request.mlflow.server, "/mlflow/server")
    secret = _secret(request)
    trigger_id = new_id("trg")
    # Without these the document is that of versions that knew none, which may still serve beside this one.
    document = request.model_dump(
        mode="json", exclude={"secret"} | {name for name in ("goal", "mlflow") if getattr(request, name) is None}
    )
    with caller.resources.database.transaction() as tx:
        _refuse_impossible(tx, caller, request)
        records.add(tx, triggers, caller.tenant, trigger_id, {"document": document, "secret": secret})
        row = records.get(tx, triggers, caller.tenant, trigger_id)
    return trigger_of(row).model_copy(update={"secret": secret})


def read(caller: Caller, trigger_id: str) -> Trigger:
    """Return a trigger without its secret; raises NotFound."""
    with caller.resources.database.reading() as tx:
        return trigger_of(records.get(tx, triggers, caller.tenant, trigger_id))


def page(caller: Caller, cursor: records.Cursor) -> Page[Trigger]:
    """Return one page of the tenant's triggers, newest first."""
    with caller.resources.database.reading() as tx:
        rows = records.page(tx, triggers, caller.tenant, cursor)
    shown = [trigger_of(row) for row in rows[: cursor.limit]]
    return Page[Trigger](items=shown, next=shown[-1].id if len(rows) > cursor.limit else None)


def remove(caller: Caller, trigger_id: str) -> None:
    """Delete a trigger; its jobs go on."""
    with caller.resources.database.transaction() as tx:
        records.get(tx, triggers, caller.tenant, trigger_id)
        records.remove(tx, triggers, trigger_id)


def receive(resources: Resources, trigger_id: str, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Verify a delivery and start the stored job, once per delivery id.

    Raises SignatureInvalid before anything else is told, in the same words for an unknown trigger; the log says more.
    What a retry may cure (a model still being checked, a full quota) is raised and not remembered, so the sender's
    retry tries again.
    """
    with resources.database.reading() as tx:
        row = records.trigger_of_hook(tx, trigger_id)
    if row is None:
        raise SignatureInvalid
    try:
        delivery_id = signatures.verify(headers, body, [row["secret"]], row["document"]["kind"])
    except SignatureInvalid as error:
        _log.info("delivery refused", trigger=trigger_id, reason=error.detail)
        raise SignatureInvalid from error
    caller = Caller(row["tenant"], resources)
    with resources.database.transaction() as tx:
        first = records.reserve_delivery(tx, trigger_id, delivery_id)
    if first is not None and first["outcome"] is not None:
        return Outcome(Delivery.model_validate(first["outcome"]), replayed=True)
    # Without an outcome the first handling died or asked for a retry; the key below keeps it at one job.
    delivery = _handle(caller, trigger_of(row), delivery_id, body)
    with resources.database.transaction() as tx:
        records.answer_delivery(tx, trigger_id, delivery_id, delivery.model_dump(mode="json"))
    return Outcome(delivery)


def trigger_of(row: records.Record) -> Trigger:
    """Return the contract of a row, without the secret."""
    own = {"id": row["id"], "hook": f"/v1/hooks/{row['id']}", "created_at": timestamp(row["created_at"])}
    return Trigger.model_validate({**row["document"], **own})


def _handle(caller: Caller, trigger: Trigger, delivery_id: str, body: bytes) -> Delivery:
    event = _event(body)
    mismatch = _mismatch(trigger.match, event)
    if mismatch:
        return Delivery(accepted=False, reason=mismatch)
    if trigger.mlflow is not None:
        delivered = loops.Delivered(trigger, _name_of(event), _payload(event), f"hook:{trigger.id}:{delivery_id}")
        return loops.start(caller, delivered, lambda model: _request(trigger, model))
    model = _model_of(event) or trigger.model
    if model is None:
        return Delivery(accepted=False, reason="the delivery names no model of ours and the trigger has none")
    try:
        origin = jobs.Origin(f"hook:{trigger.id}:{delivery_id}", trigger.id)
        submission = jobs.submit(caller, _request(trigger, model), origin)
    except BadInput as error:
        return Delivery(accepted=False, reason=error.detail)
    return Delivery(accepted=True, job=submission.job.id)


def _request(trigger: Trigger, model: str) -> JobCreate:
    return JobCreate(
        model=model,
        dataset=trigger.dataset,
        task=trigger.task,
        seed=trigger.seed,
        recipe=trigger.recipe,
        goal=trigger.goal,
        guard=trigger.guard,
        limits=trigger.limits,
        webhook=trigger.webhook,
    )


def _event(body: bytes) -> dict[str, Any]:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        msg = "The delivery is not valid JSON."
        raise BadInput(msg) from error
    if not isinstance(event, dict):
        msg = "The delivery must be a JSON object."
        raise BadInput(msg)
    return event


def _name_of(event: Mapping[str, Any]) -> str:
    """Return `entity.action` of MLflow, else the `type` of CloudEvents."""
    if "entity" in event and "action" in event:
        return f"{event['entity']}.{event['action']}"
    return str(event.get("type", ""))


def _payload(event: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = event.get("data")
    return inner if isinstance(inner, dict) else event


def _mismatch(match: TriggerMatch, event: Mapping[str, Any]) -> str:
    """Return why the event does not match, or an empty text."""
    payload = _payload(event)
    if match.events and _name_of(event) not in match.events:
        return "the event is none of those that the trigger matches"
    if match.name is not None and payload.get("name") != match.name:
        return "the registered model has another name than the trigger matches"
    if match.alias is not None and payload.get("alias") != match.alias:
        return "the alias is another one than the trigger matches"
    return ""


def _model_of(event: Mapping[str, Any]) -> str | None:
    named = _payload(event).get("model")
    return named if isinstance(named, str) and _MODEL_ID.fullmatch(named) else None


def _secret(request: TriggerCreate) -> str:
    if request.secret is None:
        return signatures.new_secret()
    secret = request.secret.get_secret_value()
    if len(secret) < _SHORTEST_SECRET:
        said = f"a secret has at least {_SHORTEST_SECRET} characters"
        raise BadInput(f"/secret: {said}", errors=[("/secret", said)])
    try:
        signatures.sign(secret, "probe", 0, b"", request.kind)
    except SignatureInvalid as error:
        raise BadInput(f"/secret: {error.detail}", errors=[("/secret", error.detail)]) from error
    return secret


def _refuse_impossible(tx: records.Transaction, caller: Caller, request: TriggerCreate) -> None:
    unknown = (
        (pointer, "there is none with this id")
        for pointer, table, given in _named(request)
        if given is not None and records.find(tx, table, caller.tenant, given) is None
    )
    faults = [*faults_of_goal(request), *unknown]
    if faults:
        raise BadInput(f"{faults[0][0]}: {faults[0][1]}", errors=faults)


def _named(request: TriggerCreate) -> Iterator[tuple[str, Noun, str | None]]:
    yield "/model", models, request.model
    yield "/dataset", datasets, request.dataset
    for index, step in enumerate(request.recipe.steps if request.recipe else ()):
        for option, named in step.models.items():
            yield f"/recipe/steps/{index}/{option}", models, named
