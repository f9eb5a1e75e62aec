"""Artifacts: the published files of a job."""

from typing import Literal

from pydantic import Field

from app.contracts.base import ArtifactId, Contract, DatasetId, JobId, ModelId, Sha256, Timestamp
from app.contracts.recipe import Recipe
from app.contracts.report import Measurement

VariantName = Literal["packed", "dense"]
Packaging = Literal["onnx", "zip"]


class Variant(Contract):
    """One file of an artifact: a model, or from 2 GiB on a zip of model.onnx and its weights, to be unpacked first."""

    sha256: Sha256
    size_bytes: int
    zstd_bytes: int
    packaging: Packaging = "onnx"
    zstd_sha256: Sha256 | None = Field(None, description="of the zstd copy; null for artifacts made before it was kept")


class Artifact(Contract):
    """A compressed model: `packed` is the file to ship, `dense` the same weights without decode subgraphs."""

    id: ArtifactId
    job: JobId
    model: ModelId
    dataset: DatasetId | None = None
    recipe: Recipe
    seed: int
    variants: dict[VariantName, Variant]
    encodings: dict[str, int] = Field(description="tensors per encoding")
    measurement: Measurement
    verdict: str
    created_at: Timestamp
