"""Triggers: a stored recipe or goal, and the signed deliveries that start it on a new model. Knows no HTTP.

What the time of day starts is seen to in `app.services.schedules`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from app import events, schedules, signatures
from app.contracts.base import ModelId, Page, new_id
from app.contracts.job import JobCreate
from app.contracts.trigger import Delivery, Trigger, TriggerCreate, TriggerKind, TriggerMatch
from app.errors import BadInput, SignatureInvalid
from app.events import Event
from app.resources import Resources
from app.services import jobs, loops
from app.services.addresses import refuse_forbidden
from app.services.caller import Caller, timestamp
from app.services.matching import mismatch, model_of
from app.services.recipes import faults_of_goal, refuse_impossible
from app.services.sources import refuse_unknown_server
from app.stores import records
from app.stores import schedules as due_times
from app.stores.tables import Noun, datasets, models, triggers

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
    with caller.resources.database.transaction() as tx:
        clock = records.clock(tx)
        _refuse_impossible(tx, caller, request, clock)
        records.add(tx, triggers, caller.tenant, trigger_id, {"document": _document(request), "secret": secret})
        if request.schedule is not None:
            due_times.begin(tx, trigger_id, schedules.next_after(request.schedule, clock))
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


def receive(
    resources: Resources, trigger_id: str, headers: Mapping[str, str], body: bytes, trace: str | None = None
) -> Outcome:
    """Verify a delivery and start the stored job, once per delivery id.

    Header names are in lower case. Raises SignatureInvalid before anything else is told, in the same words for an
    unknown trigger, the log says more; then EventMalformed, or BadInput for what is no JSON. What a
    retry may cure (a model still being checked, a full quota) is raised and not remembered, so the sender's retry
    tries again.
    """
    with resources.database.reading() as tx:
        row = records.trigger_of_hook(tx, trigger_id)
    if row is None or row["document"]["kind"] == "schedule":
        raise SignatureInvalid
    try:
        delivery_id = signatures.verify(headers, body, [row["secret"]], _scheme(row["document"]["kind"]))
    except SignatureInvalid as error:
        _log.info("delivery refused", trigger=trigger_id, reason=error.detail)
        raise SignatureInvalid from error
    trigger, caller = trigger_of(row), Caller(row["tenant"], resources, trace=trace)
    event = events.cloud(headers, body) if trigger.kind == "cloudevents" else events.plain(body)
    with resources.database.transaction() as tx:
        first = records.reserve_delivery(tx, trigger_id, delivery_id)
    if first is not None and first["outcome"] is not None:
        return Outcome(Delivery.model_validate(first["outcome"]), replayed=True)
    # Without an outcome the first handling died or asked for a retry; the key below keeps it at one job.
    delivery = _handle(caller, trigger, delivery_id, event)
    with resources.database.transaction() as tx:
        records.answer_delivery(tx, trigger_id, delivery_id, delivery.model_dump(mode="json"))
    return Outcome(delivery)


def trigger_of(row: records.Record) -> Trigger:
    """Return the contract of a row, without the secret."""
    own = {"id": row["id"], "hook": f"/v1/hooks/{row['id']}", "created_at": timestamp(row["created_at"])}
    if row["document"]["kind"] == "schedule":
        next_at = row.get("schedule_next_at")
        own |= {"hook": None, "next_at": next_at and timestamp(next_at), "last": row.get("schedule_outcome")}
    return Trigger.model_validate({**row["document"], **own})


def request_of(stored: Trigger | TriggerCreate, model: ModelId) -> JobCreate:
    """Return the job that a trigger starts on a model."""
    return JobCreate(
        model=model,
        dataset=stored.dataset,
        task=stored.task,
        seed=stored.seed,
        recipe=stored.recipe,
        goal=stored.goal,
        guard=stored.guard,
        limits=stored.limits,
        webhook=stored.webhook,
    )


def _handle(caller: Caller, trigger: Trigger, delivery_id: str, event: Event) -> Delivery:
    why = mismatch(trigger.match, event)
    if why:
        return Delivery(accepted=False, reason=why)
    if trigger.mlflow is not None:
        delivered = loops.Delivered(trigger, event.name, event.data, f"hook:{trigger.id}:{delivery_id}")
        return loops.start(caller, delivered, lambda model: request_of(trigger, model))
    model = model_of(event) or trigger.model
    if model is None:
        return Delivery(accepted=False, reason="the delivery names no model of ours and the trigger has none")
    origin = jobs.Origin(f"hook:{trigger.id}:{delivery_id}", trigger.id)
    try:
        submission = jobs.submit(caller, request_of(trigger, model), origin)
    except BadInput as error:
        return Delivery(accepted=False, reason=error.detail)
    return Delivery(accepted=True, job=submission.job.id)


def _secret(request: TriggerCreate) -> str:
    if request.secret is None:
        return signatures.new_secret()
    secret = request.secret.get_secret_value()
    if len(secret) < _SHORTEST_SECRET:
        said = f"a secret has at least {_SHORTEST_SECRET} characters"
        raise BadInput(f"/secret: {said}", errors=[("/secret", said)])
    try:
        signatures.sign(secret, "probe", 0, b"", _scheme(request.kind))
    except SignatureInvalid as error:
        raise BadInput(f"/secret: {error.detail}", errors=[("/secret", error.detail)]) from error
    return secret


def _scheme(kind: TriggerKind) -> signatures.Scheme:
    return "mlflow" if kind == "mlflow" else "standard"


def _document(request: TriggerCreate) -> dict[str, Any]:
    """Return what is stored: without what is unset and new, so that the version before this one can read the rest."""
    unset = {name for name in ("goal", "schedule", "mlflow") if getattr(request, name) is None}
    unmatched = {name for name in ("source", "subject", "tag") if getattr(request.match, name) is None}
    left_out: dict[str, Any] = {**dict.fromkeys({"secret"} | unset, True), "match": unmatched}
    return request.model_dump(mode="json", exclude=left_out)


def _refuse_impossible(tx: records.Transaction, caller: Caller, request: TriggerCreate, clock: float) -> None:
    unknown = (
        (pointer, "there is none with this id")
        for pointer, table, given in _named(request)
        if given is not None and records.find(tx, table, caller.tenant, given) is None
    )
    faults = [*_faults_of_schedule(request, clock), *_faults_of_match(request), *faults_of_goal(request), *unknown]
    if faults:
        raise BadInput(f"{faults[0][0]}: {faults[0][1]}", errors=faults)
    if request.schedule is not None and request.model is not None:
        refuse_impossible(tx, caller, request_of(request, request.model))  # what it starts is known already


def _faults_of_schedule(request: TriggerCreate, clock: float) -> Iterator[tuple[str, str]]:
    if request.kind != "schedule":
        if request.schedule is not None:
            yield "/schedule", f"a trigger of the kind {request.kind} is started by deliveries; leave it out"
        return
    if request.schedule is None:
        yield "/schedule", "say when: a schedule has a cron expression, and a time zone if it is not UTC"
    else:
        yield from ((f"/schedule{pointer}", said) for pointer, said in schedules.faults(request.schedule, clock))
    if request.model is None:
        yield "/model", "no delivery names the model, so the schedule must"
    if request.match != TriggerMatch():
        yield "/match", "a schedule takes no deliveries, so there is nothing to match; leave it out"


def _faults_of_match(request: TriggerCreate) -> Iterator[tuple[str, str]]:
    for name, kind in (("source", "cloudevents"), ("subject", "cloudevents"), ("tag", "mlflow")):
        if getattr(request.match, name) is not None and request.kind not in {kind, "schedule"}:
            yield f"/match/{name}", f"deliveries of the kind {request.kind} have none; it is for the kind {kind}"


def _named(request: TriggerCreate) -> Iterator[tuple[str, Noun, str | None]]:
    yield "/model", models, request.model
    yield "/dataset", datasets, request.dataset
    for index, step in enumerate(request.recipe.steps if request.recipe else ()):
        for option, named in step.models.items():
            yield f"/recipe/steps/{index}/{option}", models, named
