"""`/v1/datasets`."""

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
from app.contracts.dataset import Dataset, DatasetCreate, DatasetFormat
from app.errors import (
    Conflict,
    NotFound,
)
from app.services import datasets

router = APIRouter(prefix="/datasets", tags=["datasets"])


@router.post(
    "",
    status_code=202,
    response_model=Dataset,
    responses=creation.REFUSALS,
    openapi_extra=creation.body_of(DatasetCreate),
)
async def create_dataset(
    request: Request,
    caller: CallerGiven,
    format: Annotated[DatasetFormat | None, Query(description="raw bodies: npz (default), csv, jsonl, parquet")] = None,  # noqa: A002 - the wire's name
    prefer: Annotated[str | None, Header(description="wait=N: answer when the check has ended, at most N s")] = None,
    name: Annotated[str | None, Query(max_length=200, description="raw bodies: name to show")] = None,
) -> Response:
    """Make a data set of a finished upload (JSON), of the body itself (octet-stream) or of a form's file."""
    create = await creation.requested(request, caller, DatasetCreate, {"format": format, "name": name})
    dataset = await asyncio.to_thread(datasets.create, caller, create)
    return await creation.created(
        request, prefer, dataset, f"/v1/datasets/{dataset.id}", partial(datasets.read, caller, dataset.id)
    )


@router.get("")
def list_datasets(caller: CallerGiven, cursor: CursorGiven) -> Page[Dataset]:
    """List data sets, newest first."""
    return datasets.page(caller, cursor)


@router.get("/{dataset_id}", responses=documented(NotFound))
def read_dataset(caller: CallerGiven, dataset_id: str) -> Dataset:
    """Read a data set; `summary` is there once it is ready, `error` once it is rejected."""
    return datasets.read(caller, dataset_id)


@router.delete("/{dataset_id}", status_code=204, responses=documented(NotFound, Conflict))
def delete_dataset(caller: CallerGiven, dataset_id: str) -> None:
    """Delete a data set that no unfinished job uses."""
    datasets.remove(caller, dataset_id)
