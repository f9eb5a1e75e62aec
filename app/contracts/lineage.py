"""What became of a model: the jobs that used it and the artifacts they published."""

from typing import Literal

from app.contracts.base import ArtifactId, Contract, DatasetId, JobId, ModelId, Sha256, Timestamp
from app.contracts.job import JobState
from app.contracts.source import Origin


class Descendant(Contract):
    """One job that used the model, as what it compressed, as a teacher or as a student."""

    job: JobId
    role: Literal["compressed", "teacher", "student"]
    state: JobState
    dataset: DatasetId | None
    techniques: list[str]
    artifact: ArtifactId | None
    created_at: Timestamp


class Lineage(Contract):
    """Where a model came from, and its descendants, newest first."""

    model: ModelId
    origin: Origin = Origin()
    sha256: Sha256 | None = None
    descendants: list[Descendant]
