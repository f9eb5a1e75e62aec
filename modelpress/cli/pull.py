"""`modelpress pull`: make a model or a data set of what lies elsewhere, without sending it from here."""

from typing import Annotated

import typer
from rich.console import Console

from app.contracts.dataset import Columns, Dataset
from app.contracts.model import Model
from modelpress.cli import render
from modelpress.cli.options import DEFAULT_URL, ApiKey, AsJson, LabelColumn, MaxLength, Server, TextColumn
from modelpress.cli.printing import print_json
from modelpress.client import Client
from modelpress.options import DatasetOptions


def pull(  # noqa: PLR0913  # each parameter is one option of the command line
    place: Annotated[
        str,
        typer.Argument(
            help="https://…, s3://STORE/key with a store that the operator named, mlflow:NAME@ALIAS, mlflow:NAME/3."
        ),
    ],
    *,
    dataset: Annotated[bool, typer.Option("--dataset", help="It is a data set, not a model.")] = False,
    sha256: Annotated[str | None, typer.Option("--sha256", help="Digest that the bytes must have.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name to show.")] = None,
    text: TextColumn = None,
    label: LabelColumn = None,
    max_length: MaxLength = None,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Let the server pull a model or a data set from where it lives, and wait for its check."""
    found: Model | Dataset
    with Client(server, api_key) as client, Console(stderr=True).status("pulling", spinner="line"):
        if dataset:
            options: DatasetOptions = {"columns": Columns(text=text, label=label), "name": name}
            if max_length:
                options["max_length"] = max_length
            found = client.pull_dataset(place, sha256=sha256, **options)
        else:
            found = client.pull_model(place, name=name, sha256=sha256)
    if as_json:
        print_json(found)
        return
    render.console().print(f"{found.id} {found.state}  {found.name}", highlight=False)
