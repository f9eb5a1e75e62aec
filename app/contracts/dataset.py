"""Data sets: formats, column mapping, splits."""

from typing import Literal

from pydantic import Field, model_validator

from app.contracts.base import Contract, DatasetId, DisplayName, Sha256, Tags, Timestamp, UploadId
from app.contracts.model import CheckState
from app.contracts.problem import Problem
from app.contracts.source import DatasetSource, Origin, refuse_unclear

DatasetFormat = Literal["npz", "csv", "jsonl", "parquet"]


class Columns(Contract):
    """Which column is what. npz: array names; the others: column names.

    Unset fields are found by name: text/label/split, the model's input names, x/y for npz.
    """

    inputs: dict[str, str | list[str]] = Field(
        {}, description="model input -> array or column; several numeric columns are stacked into one input"
    )
    text: str | None = Field(None, description="column that the model's tokenizer turns into its inputs")
    label: str | None = None
    split: str | None = Field(None, description="column holding train, validation or test per row")


class Splits(Contract):
    """Shares for rows that name no split; the assignment depends on `seed` and the row number only.

    A job judges by a third of the test rows where its model knows drawn validation rows by heart.
    """

    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)
    seed: int = 0


class DatasetCreate(Contract):
    """Make a data set of a completed upload, or of what the service pulls from elsewhere."""

    upload: UploadId | None = None
    source: DatasetSource | None = Field(None, description="where to pull the bytes from, in place of an upload")
    format: DatasetFormat = "npz"
    name: DisplayName | None = None
    columns: Columns = Columns()
    splits: Splits = Splits()
    max_length: int = Field(64, ge=1, le=8192, description="tokens per text")
    tags: Tags = {}

    @model_validator(mode="after")
    def _one_of_two(self) -> "DatasetCreate":
        refuse_unclear(self.upload, self.source)
        return self


class ColumnSummary(Contract):
    """One array or column; `shape` is per row."""

    name: str
    dtype: str
    shape: list[int] = []
    distinct: int | None = None


class DatasetSummary(Contract):
    """What the worker found inside."""

    rows: int
    columns: list[ColumnSummary]
    rows_per_split: dict[str, int] = {}
    classes: dict[str, int] = Field({}, description="rows per label, for up to 1,000 labels")
    sha256: Sha256


class Dataset(Contract):
    """An uploaded or pulled data set."""

    id: DatasetId
    name: str
    format: DatasetFormat
    state: CheckState
    stage: str = Field("", description="what the check, or the pulling before it, is about")
    progress: float = Field(0.0, ge=0, le=1, description="of the pulling, then of the check")
    size_bytes: int = Field(description="0 until a pulled data set has arrived")
    sha256: Sha256 | None = Field(description="of the bytes as they came; null until a pulled data set has arrived")
    origin: Origin = Origin()
    columns: Columns = Columns()
    splits: Splits = Splits()
    max_length: int = 64
    tags: Tags = {}
    created_at: Timestamp
    summary: DatasetSummary | None = None
    error: Problem | None = None
