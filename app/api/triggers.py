"""`/v1/triggers`, and `/v1/hooks/{id}`, which a signature opens instead of a key."""

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api import bodies
from app.api.access import CallerGiven, CursorGiven
from app.api.envelope import SMALL_BODY_BYTES
from app.api.problems import documented
from app.contracts.base import Page
from app.contracts.trigger import Delivery, Trigger, TriggerCreate
from app.errors import (
    BadInput,
    Conflict,
    EventMalformed,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
    ServiceBusy,
    SignatureInvalid,
    UrlForbidden,
)
from app.services import triggers

router = APIRouter(prefix="/triggers", tags=["triggers"])
hooks = APIRouter(prefix="/hooks", tags=["triggers"])
_SAID = "an event of MLflow, a CloudEvent in structured form, or with ce- headers the data of one"
_EVENT = {"schema": {"type": "object", "description": _SAID}}
_DELIVERED = {
    "requestBody": {"required": True, "content": {"application/json": _EVENT, "application/cloudevents+json": _EVENT}}
}


@router.post("", status_code=201, response_model=Trigger, responses=documented(BadInput, Conflict, UrlForbidden))
def create_trigger(caller: CallerGiven, create: TriggerCreate) -> Response:
    """Store a recipe behind a hook or a schedule. The answer is the only one that shows the secret."""
    trigger = triggers.create(caller, create)
    headers = {"Location": f"/v1/triggers/{trigger.id}"}
    return Response(trigger.model_dump_json(), 201, headers, "application/json")


@router.get("")
def list_triggers(caller: CallerGiven, cursor: CursorGiven) -> Page[Trigger]:
    """List triggers, newest first."""
    return triggers.page(caller, cursor)


@router.get("/{trigger_id}", responses=documented(NotFound))
def read_trigger(caller: CallerGiven, trigger_id: str) -> Trigger:
    """Read a trigger; its secret is not shown again."""
    return triggers.read(caller, trigger_id)


@router.delete("/{trigger_id}", status_code=204, responses=documented(NotFound))
def delete_trigger(caller: CallerGiven, trigger_id: str) -> None:
    """Delete a trigger; its jobs go on."""
    triggers.remove(caller, trigger_id)


@hooks.post(
    "/{trigger_id}",
    status_code=202,
    response_model=Delivery,
    responses={
        200: {"model": Delivery, "description": "delivered before, or nothing to start"},
        **documented(SignatureInvalid, EventMalformed, BadInput, Conflict, PayloadTooLarge, QuotaExceeded, ServiceBusy),
    },
    openapi_extra=_DELIVERED,
)
async def receive_delivery(request: Request, trigger_id: str) -> Response:
    """Deliver an event, signed as Standard Webhooks or MLflow do. Each delivery id starts at most one job."""
    body = await bodies.small(request, SMALL_BODY_BYTES)
    resources = request.app.state.resources
    trace = request.state.span.traceparent
    outcome = await asyncio.to_thread(triggers.receive, resources, trigger_id, dict(request.headers), body, trace)
    started = outcome.delivery.accepted and not outcome.replayed
    headers = {"Location": f"/v1/jobs/{outcome.delivery.job}"} if outcome.delivery.job else {}
    return Response(outcome.delivery.model_dump_json(), 202 if started else 200, headers, "application/json")
