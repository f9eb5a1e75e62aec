"""What became of a model: the jobs that used it and the artifacts they published."""

from typing import Literal

from app.contracts.base import ArtifactId, Contract, DatasetId, JobId, ModelId, Timestamp
from app.contracts.job import JobState


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
    """The descendants of a model, newest first."""

    model: ModelId
    descendants: list[Descendant]
