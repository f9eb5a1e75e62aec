"""Keyword arguments of the client's calls. Types only; the contracts check the values."""

from typing import Literal, TypedDict

from app.contracts.artifact import VariantName
from app.contracts.dataset import Columns, Splits
from app.contracts.job import Guard, Limits, TaskName
from app.contracts.report import Provider


class JobOptions(TypedDict, total=False):
    """Everything of a job beyond model, data set and recipe; defaults are the server's."""

    task: TaskName
    seed: int
    guard: Guard | None
    limits: Limits
    device: Literal["auto", "cpu", "cuda"]
    webhook: str | None
    tags: dict[str, str]


class DatasetOptions(TypedDict, total=False):
    """How to read a data set."""

    name: str | None
    columns: Columns
    splits: Splits
    max_length: int
    tags: dict[str, str]


class BenchmarkOptions(TypedDict, total=False):
    """What to time."""

    batch_sizes: list[int]
    threads: int | list[int]
    provider: Provider
    against: str | None
    variant: VariantName
    max_seconds: float
