"""What a kind of work is, and what all kinds share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.contracts.tasks import Done, InputDataset, InputModel, Order
from app.errors import ServiceFault
from app.resources import Resources
from app.stores import inputs
from app.stores.records import Transaction
from app.stores.sinks import Stored
from app.stores.work import Claim
from workers.scratch import made_by_child

Record = Callable[[Transaction], None]  # writes rows in the transaction that ends the work
Prepare = Callable[[Resources, Claim, Path], Order]  # brings the inputs into the folder
Publish = Callable[[Resources, Claim, Done, Path], Record]  # stores the child's files

_ZIP_MAGIC = b"PK\x03\x04"  # no ONNX file begins so


@dataclass(frozen=True)
class Kind:
    """The two halves around the child."""

    prepare: Prepare
    publish: Publish


@dataclass(frozen=True)
class Published:
    """One stored file and its zstd copy, each with digest and size; `zipped` if it is an archive."""

    stored: Stored
    zstd: Stored
    zipped: bool


def place_model(resources: Resources, model: inputs.Checked, folder: Path, stem: str) -> InputModel:
    """Fetch a model's files as `in/<stem>.onnx` and `in/<stem>.tokenizer.json`."""
    path, tokenizer = f"in/{stem}.onnx", None
    resources.blobs.fetch(model.onnx_sha256, folder / path)
    if model.tokenizer_sha256:
        tokenizer = f"in/{stem}.tokenizer.json"
        resources.blobs.fetch(model.tokenizer_sha256, folder / tokenizer)
    return InputModel(path=path, sha256=model.onnx_sha256, tokenizer=tokenizer, classes=model.classes)


def place_dataset(resources: Resources, found: inputs.DatasetFile, folder: Path) -> InputDataset:
    """Fetch a data set's file as `in/dataset`."""
    resources.blobs.fetch(found.sha256, folder / "in" / "dataset")
    return InputDataset(path="in/dataset", sha256=found.sha256, **found.reading)


def keep(resources: Resources, folder: Path, name: str) -> Published:
    """Store `out/<name>` and its zstd copy. Raises ServiceFault when the child did not leave it."""
    try:
        with made_by_child(folder, name) as file:
            stored = resources.blobs.put_open(file)
            zstd = resources.blobs.make_zstd(stored.sha256, file)
            file.seek(0)
            return Published(stored, zstd, zipped=file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC)
    except FileNotFoundError as error:
        raise ServiceFault("The compute child left no result.") from error


def missing_answer() -> ServiceFault:
    """Return the error for a child that is done but says nothing of what was asked."""
    return ServiceFault("The compute child answered something else than was asked.")
