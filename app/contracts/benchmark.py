"""Benchmarks: an artifact against another model, interleaved in one run."""

from typing import Annotated

from pydantic import Field

from app.contracts.base import ArtifactId, BenchmarkId, Contract, ModelId, Timestamp
from app.contracts.job import JobState
from app.contracts.problem import Problem
from app.contracts.report import Environment, Estimate, Latency, Provider


class BenchmarkCreate(Contract):
    """What to time."""

    batch_sizes: list[Annotated[int, Field(ge=1, le=1024)]] = Field([1, 8], min_length=1, max_length=8)
    threads: Annotated[int, Field(ge=1, le=256)] | list[Annotated[int, Field(ge=1, le=256)]] = 2
    provider: Provider = "cpu"
    against: ModelId | None = Field(None, description="default: the artifact's original")
    variant: str = Field("packed", pattern="^(packed|dense)$")
    max_seconds: float = Field(30, gt=0, le=600)


class OperatorTime(Contract):
    """Time of one kind of operator in one pass, from ONNX Runtime's profile."""

    operator: str
    provider: str
    calls: int
    share: float = Field(ge=0, le=1)
    microseconds: float


class Contestant(Contract):
    """One of the two models. `latency` has one entry per batch size × thread count."""

    file_bytes: int
    load_ms: float
    resident_bytes: int | None
    latency: list[Latency]
    profile: list[OperatorTime]


class BenchmarkResult(Contract):
    """Both models, and how many times faster the artifact is."""

    candidate: Contestant
    original: Contestant
    size_ratio: float
    speedups: dict[str, Estimate] = Field(description="by `batch@threads`; original / candidate")
    environment: Environment


class Benchmark(Contract):
    """A benchmark of an artifact."""

    id: BenchmarkId
    artifact: ArtifactId
    against: ModelId
    spec: BenchmarkCreate
    state: JobState
    result: BenchmarkResult | None = None
    error: Problem | None = None
    created_at: Timestamp
