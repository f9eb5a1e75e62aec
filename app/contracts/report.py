"""What was measured: before, after every step, and what changed, each with its interval."""

from typing import Any, Literal

from pydantic import Field

from app.contracts.base import Contract, Sha256
from app.contracts.causes import GuardCauses
from app.contracts.problem import Problem
from app.contracts.recipe import ControlKind
from app.contracts.search import Search

Provider = Literal["cpu", "cuda"]


class Estimate(Contract):
    """A measured value with its 95 % confidence interval and the number of samples behind it."""

    value: float
    low: float
    high: float
    samples: int


class CurvePoint(Contract):
    """One point of a training curve; `validation_score` is higher-is-better."""

    step: int
    epoch: float
    loss: float | None = None
    validation_loss: float | None = None
    validation_score: float | None = None


class Latency(Contract):
    """One model at one batch size, thread count and provider; times of one call, end to end."""

    batch_size: int
    threads: int
    provider: Provider = "cpu"
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    throughput_per_s: float = Field(description="rows per second at the median")
    ratio: Estimate | None = Field(
        None, description="original's time divided by this one's, interleaved: > 1 is faster"
    )
    disturbed: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of calls that waited for a processor that others held; left out if enough remain",
    )


class Quality(Contract):
    """Scores on one split. `scores` keys: accuracy, macro_recall, macro_f1, agreement, mae, rmse, r2, loss."""

    split: Literal["validation", "test"]
    samples: int
    scores: dict[str, Estimate] = {}
    recall_per_class: dict[str, Estimate] = {}


class Measurement(Contract):
    """One model, measured in ONNX Runtime."""

    parameters: int
    nonzeros: int
    macs: int | None = Field(None, description="multiply-accumulates for one row; null when a shape is unknown")
    activation_bytes: int | None = Field(None, description="of all that the nodes yield for one row")
    peak_activation_bytes: int | None = Field(None, description="the most of them alive at once")
    file_bytes: int
    zstd_bytes: int
    resident_bytes: int | None = Field(None, description="resident memory that loading the model added")
    load_ms: float | None = None
    latency: list[Latency] = []
    quality: Quality | None = None


class Change(Contract):
    """Before against after for one figure. `ratio` is before / after; `difference` is after − before.

    `unchanged` is a count within 0.5 %; `no measurable difference` is a measurement within its noise.
    """

    figure: str = Field(examples=["accuracy", "file_bytes", "p50_ms@1"])
    before: float
    after: float
    difference: Estimate | None = None
    ratio: float | None = None
    ratio_interval: Estimate | None = Field(None, description="of latency alone, from calls that took turns")
    verdict: Literal["better", "worse", "no measurable difference", "unchanged"]


Setting = Literal["int8", "int4", "ternary", "binary"]


class LayerDamage(Contract):
    """What coarser values in one tensor do to the answers, everything else left alone."""

    tensor: str
    operator: str
    parameters: int
    setting: Setting
    damage: float = Field(description="mean squared change of the outputs, relative to their variance")


class StepReport(Contract):
    """One step of the recipe: what it did and what it cost."""

    index: int
    technique: str
    options: dict[str, Any]
    duration_s: float
    changed: bool
    notes: list[str] = []
    curve: list[CurvePoint] = []
    measurement: Measurement
    constraints: dict[str, int] = Field({}, description="tensors under each kind of constraint, all checked")


class ControlReport(Contract):
    """What the same steps gave from the upload on without retraining, or without a teacher; its file is not kept."""

    kind: ControlKind
    steps: list[StepReport] = Field(description="as taken, measured on validation rows, not timed")
    file_bytes: int
    quality: Quality
    differences: dict[str, Estimate] = Field(
        {}, description="the result's scores minus this control's, paired by row; none for task match"
    )
    duration_s: float


class TensorReport(Contract):
    """One weight tensor of the published file."""

    name: str
    operator: str = Field(description="the operator that reads it")
    shape: list[int]
    parameters: int
    nonzeros: int
    unique_values: int
    encoding: str
    bits_per_weight: float
    entropy_bits_per_weight: float = Field(description="first-order entropy bound")
    dense_bytes: int
    packed_bytes: int
    load_ms: float | None = Field(None, description="what decoding it adds to the load, one tensor at a time")
    latency_share: float | None = Field(
        None, ge=0, le=1, description="of a call's time in operators, that of the nodes that read it; null: not traced"
    )
    snr_db: float | None = Field(None, description="against the same tensor of the original, where there is one")
    cosine: float | None = Field(
        None, ge=-1, le=1, description="similarity to the same tensor of the original, where there is one; 1 when equal"
    )


class Environment(Contract):
    """Where the figures were taken."""

    python: str
    versions: dict[str, str]
    cpu: str
    cpu_flags: list[str] = Field(description="the ones that decide int8 speed: avx2, avx512_vnni, amx_int8 …")
    threads: int
    device: str


class Report(Contract):
    """The whole story of one job, verdict first."""

    verdict: str = Field(description="one line for people")
    before: Measurement
    after: Measurement
    changes: list[Change]
    steps: list[StepReport]
    controls: list[ControlReport] = Field([], description="the runs that the recipe asked for beside its own")
    tensors: list[TensorReport]
    sensitivity: list[LayerDamage] = Field([], description="what coarser values would do to the original, worst first")
    notes: list[str] = Field([], description="why something is not smaller or faster, and other findings")
    search: Search | None = Field(None, description="of a job with a goal: what was tried; the rest tells of the best")
    guard: Problem | None = Field(None, description="set when the guard was not met")
    guard_causes: GuardCauses | None = Field(None, description="what its drop came from, and the cheapest repair")
    seed: int
    digests: dict[str, Sha256] = Field(description="of the inputs and of every published file")
    environment: Environment
    duration_s: float
