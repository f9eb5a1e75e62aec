"""What a job is made from: the model and the data of a command line, uploaded where they are files, else pulled."""

from dataclasses import dataclass
from pathlib import Path

from app.contracts.dataset import Columns
from modelpress.cli.progress import transfer
from modelpress.cli.running import model_id
from modelpress.client import Client
from modelpress.errors import InvalidInput
from modelpress.options import DatasetOptions
from modelpress.places import is_place


@dataclass(frozen=True)
class Sources:
    """What to compress: a path, or the id of what is already on the server."""

    model: str
    dataset: str | None
    columns: Columns
    max_length: int | None


@dataclass(frozen=True)
class Placed:
    """The ids of both on the server."""

    model: str
    dataset: str | None


def upload(client: Client, sources: Sources, *, quiet: bool) -> Placed:
    """Send what is not on the server yet. Raises InvalidInput for a path that does not exist."""
    model = model_id(client, sources.model, quiet=quiet)
    return Placed(model, placed_dataset(client, sources, sources.dataset, quiet=quiet) if sources.dataset else None)


def placed_dataset(client: Client, sources: Sources, source: str, *, quiet: bool) -> str:
    """Return the id of a data set on the server: given as such, or uploaded from this path. Raises InvalidInput."""
    if source.startswith("dst_") and not Path(source).exists():
        return client.dataset(source).id
    options: DatasetOptions = {"columns": sources.columns}
    if sources.max_length:
        options["max_length"] = sources.max_length
    if is_place(source):
        return client.pull_dataset(source, **options).id
    if not Path(source).exists():
        raise InvalidInput(f"{source} does not exist")
    with transfer(f"upload {Path(source).name}", quiet=quiet) as progress:
        return client.upload_dataset(source, progress=progress, **options).id
