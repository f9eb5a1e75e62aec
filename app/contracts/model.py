"""Models: what is uploaded, checked, and described."""

from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from app.contracts.base import Contract, DisplayName, ModelId, Sha256, Tags, Timestamp, UploadId
from app.contracts.problem import Problem
from app.contracts.source import ModelSource, Origin, refuse_unclear

ModelFormat = Literal["onnx", "huggingface"]


class CheckState(StrEnum):
    """Life of an upload that a worker examines."""

    CHECKING = "checking"
    READY = "ready"
    REJECTED = "rejected"


class ModelCreate(Contract):
    """Make a model of a completed upload, or of what the service pulls from elsewhere."""

    upload: UploadId | None = None
    source: ModelSource | None = Field(None, description="where to pull the bytes from, in place of an upload")
    format: ModelFormat = "onnx"
    name: DisplayName | None = None
    tags: Tags = {}

    @model_validator(mode="after")
    def _one_of_two(self) -> "ModelCreate":
        refuse_unclear(self.upload, self.source)
        return self


_FLOATS = frozenset({"float", "float16", "double", "bfloat16"})


class TensorSpec(Contract):
    """One input or output: fixed axes are numbers, dynamic ones names, unknown ones null."""

    name: str
    dtype: str
    shape: list[int | str | None]

    @property
    def floating(self) -> bool:
        """Whether there are values between any two of its values."""
        return self.dtype in _FLOATS


class ModelSummary(Contract):
    """What the worker found inside. `sha256` is of the imported ONNX file."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    parameters: int
    macs: int | None = Field(None, description="multiply-accumulates for one row; null when a shape is unknown")
    macs_formula: str | None = Field(
        None,
        description="MACs in the free dimensions, rows among them; null where they are no polynomial",
        examples=["batch*(304 + 5120*tokens + 64*tokens^2)"],
    )
    activation_bytes: int | None = Field(None, description="of all that the nodes yield for one row")
    peak_activation_bytes: int | None = Field(None, description="the most of them alive at once")
    opset: int
    operators: dict[str, int]
    onnx_bytes: int
    zstd_bytes: int
    sha256: Sha256
    has_tokenizer: bool = False
    classes: list[str] = []
    producer: str = ""


class Model(Contract):
    """An uploaded or pulled model."""

    id: ModelId
    name: str
    format: ModelFormat
    state: CheckState
    stage: str = Field("", description="what the check, or the pulling before it, is about")
    progress: float = Field(0.0, ge=0, le=1, description="of the pulling, then of the check")
    size_bytes: int = Field(description="0 until a pulled model has arrived")
    sha256: Sha256 | None = Field(description="of the bytes as they came; null until a pulled model has arrived")
    origin: Origin = Origin()
    tags: Tags = {}
    created_at: Timestamp
    summary: ModelSummary | None = None
    error: Problem | None = None
