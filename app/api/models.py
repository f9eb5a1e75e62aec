"""`/v1/models`."""

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from app.api import creation
from app.api.access import CallerGiven, CursorGiven
from app.api.problems import documented
from app.contracts.base import Page
from app.contracts.lineage import Lineage
from app.contracts.model import Model, ModelCreate, ModelFormat
from app.errors import (
    Conflict,
    NotFound,
)
from app.services import lineage, models

router = APIRouter(prefix="/models", tags=["models"])


@router.post(
    "", status_code=202, response_model=Model, responses=creation.REFUSALS, openapi_extra=creation.body_of(ModelCreate)
)
async def create_model(
    request: Request,
    caller: CallerGiven,
    format: Annotated[ModelFormat | None, Query(description="raw bodies: onnx (default) or huggingface")] = None,  # noqa: A002 - the wire's name
    prefer: Annotated[str | None, Header(description="wait=N: answer when the check has ended, at most N s")] = None,
    name: Annotated[str | None, Query(max_length=200, description="raw bodies: name to show")] = None,
) -> Response:
    """Make a model of a finished upload (JSON), of the body itself (octet-stream) or of a form's file."""
    create = await creation.requested(request, caller, ModelCreate, {"format": format, "name": name})
    model = await asyncio.to_thread(models.create, caller, create)
    return await creation.created(
        request, prefer, model, f"/v1/models/{model.id}", partial(models.read, caller, model.id)
    )


@router.get("")
def list_models(caller: CallerGiven, cursor: CursorGiven) -> Page[Model]:
    """List models, newest first."""
    return models.page(caller, cursor)


@router.get("/{model_id}", responses=documented(NotFound))
def read_model(caller: CallerGiven, model_id: str) -> Model:
    """Read a model; `summary` is there once it is ready, `error` once it is rejected."""
    return models.read(caller, model_id)


@router.get("/{model_id}/lineage", responses=documented(NotFound))
def read_lineage(caller: CallerGiven, model_id: str) -> Lineage:
    """Read what became of a model: its jobs and their artifacts."""
    return lineage.read(caller, model_id)


@router.delete("/{model_id}", status_code=204, responses=documented(NotFound, Conflict))
def delete_model(caller: CallerGiven, model_id: str) -> None:
    """Delete a model that no unfinished job uses. Artifacts made of it stay."""
    models.remove(caller, model_id)
