"""What every command prints for machines."""

import json
from collections.abc import Iterable

import typer
from pydantic import BaseModel


def print_json(found: BaseModel | Iterable[BaseModel]) -> None:
    """Print one thing as a JSON object, several as an array."""
    if isinstance(found, BaseModel):
        typer.echo(found.model_dump_json())
        return
    typer.echo(json.dumps([item.model_dump(mode="json") for item in found]))
