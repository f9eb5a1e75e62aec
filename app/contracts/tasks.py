"""What crosses the broker (one id) and what crosses the pipe between supervisor and child (orders, messages).

A Celery message is `(task name, [id])`, never more. The supervisor writes an order as `order.json` into the scratch
folder and starts `python -m workers.compute <scratch>`; the child prints one message per line on standard output and
leaves its files under `<scratch>/out`. All paths in an order are relative to the scratch folder.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from app.contracts.base import Contract, ModelId, Sha256
from app.contracts.benchmark import BenchmarkCreate, BenchmarkResult
from app.contracts.checkpoint import Position
from app.contracts.dataset import Columns, DatasetFormat, DatasetSummary, Splits
from app.contracts.goal import Goal
from app.contracts.job import Guard, TaskName
from app.contracts.model import ModelFormat, ModelSummary
from app.contracts.problem import Problem
from app.contracts.recipe import Recipe
from app.contracts.report import CurvePoint, Report
from app.contracts.survey import Survey

LOGITS = "logits"  # what a survey leaves under `out`, and candidates get under `in`


class WorkKind(StrEnum):
    """Kinds of work; the value is the middle of the task's name."""

    CHECK_MODEL = "check_model"
    CHECK_DATASET = "check_dataset"
    COMPRESS = "compress"
    BENCHMARK = "benchmark"
    SEARCH = "search"
    FETCH = "fetch"

    @property
    def task(self) -> str:
        """The Celery task's name."""
        return f"modelpress.{self.value}"


class Queue(StrEnum):
    """Queues, by what a worker must have."""

    CPU = "cpu"
    GPU = "gpu"
    CHECKS = "checks"
    EGRESS = "egress"


class InputModel(Contract):
    """A checked model: its ONNX file and, for text, its tokenizer."""

    path: str
    sha256: Sha256
    tokenizer: str | None = None
    classes: list[str] = []


class InputDataset(Contract):
    """A checked data set's file and how to read it."""

    path: str
    sha256: Sha256
    format: DatasetFormat
    columns: Columns = Columns()
    splits: Splits = Splits()
    max_length: int = 64


class CheckModelOrder(Contract):
    """Examine an upload; leaves `out/model.onnx` and, for text, `out/tokenizer.json`.

    From 2 GiB on `model.onnx` is a zip of the model file and its data file, here and in every order.
    """

    kind: Literal["check_model"] = "check_model"
    path: str
    format: ModelFormat
    threads: int = 2
    max_unpacked_bytes: int = 8 << 30


class CheckDatasetOrder(Contract):
    """Examine a data set; leaves no file."""

    kind: Literal["check_dataset"] = "check_dataset"
    dataset: InputDataset
    threads: int = 2


class CompressOrder(Contract):
    """Run a recipe; leaves `out/packed.onnx`, `out/dense.onnx`, and the report in the result.

    `checkpoint` is what an earlier attempt left, to go on from; every `checkpoint_every_s` seconds of training, and
    after each step, one is left as `out/checkpoint-<number>` (0: none). `logits` is what a survey has left.
    """

    kind: Literal["compress"] = "compress"
    model: InputModel
    dataset: InputDataset | None
    models: dict[ModelId, InputModel] = {}
    task: TaskName
    recipe: Recipe
    guard: Guard | None
    explained: Guard | None = Field(None, description="a larger drop fails nothing, but the report says whence it came")
    seed: int
    device: str = "auto"
    threads: int = 2
    checkpoint: str | None = None
    logits: str | None = None
    checkpoint_every_s: float = Field(0.0, ge=0)


class BenchmarkOrder(Contract):
    """Time a candidate against the original; leaves no file."""

    kind: Literal["benchmark"] = "benchmark"
    candidate: str
    original: str
    spec: BenchmarkCreate


class SurveyOrder(Contract):
    """Look at a model and its data before a search for a goal.

    Leaves `out/logits`: what the model answers to the rows to train on, where candidates can learn from that, and its
    scores on the others.
    """

    kind: Literal["survey"] = "survey"
    model: InputModel
    dataset: InputDataset | None
    task: TaskName
    goal: Goal
    low: Recipe = Field(description="brings weights into the number format that the goal's device calculates with")
    narrow: Recipe = Field(description="leaves next to nothing to multiply in networks that are no text encoders")
    seed: int
    device: str = "auto"
    threads: int = 2


Order = Annotated[
    CheckModelOrder | CheckDatasetOrder | CompressOrder | BenchmarkOrder | SurveyOrder,
    Field(discriminator="kind"),
]


class Progress(Contract):
    """Where the child stands."""

    say: Literal["progress"] = "progress"
    stage: str
    progress: float = Field(ge=0, le=1)
    eta_s: float | None = None
    point: CurvePoint | None = None
    part: str | None = None  # what of the stage begins: packing or measuring; None: nothing new


class Log(Contract):
    """A line for people."""

    say: Literal["log"] = "log"
    message: str


class Kept(Contract):
    """The child has left a checkpoint in `out`, in place of the one before."""

    say: Literal["kept"] = "kept"
    file: str = Field(pattern=r"^checkpoint-[0-9]{1,9}$")
    position: Position


class Failed(Contract):
    """The child gives up; nothing follows. A guard that was not met brings the report along."""

    say: Literal["failed"] = "failed"
    problem: Problem
    report: Report | None = None


class Done(Contract):
    """The child is done; nothing follows. Exactly one field is set, by kind of order."""

    say: Literal["done"] = "done"
    model: ModelSummary | None = None
    dataset: DatasetSummary | None = None
    report: Report | None = None
    benchmark: BenchmarkResult | None = None
    survey: Survey | None = None


Message = Annotated[Progress | Log | Kept | Failed | Done, Field(discriminator="say")]
ORDER: TypeAdapter[Order] = TypeAdapter(Order)
MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
