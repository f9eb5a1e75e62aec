"""What a technique is given and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.contracts.report import CurvePoint
from workers.compute.datasets.samples import Dataset
from workers.compute.graph.model import Model

# Share of this step that is done (0–1) and the latest training point, if it trains.
Progress = Callable[[float, CurvePoint | None], None]


@dataclass(frozen=True)
class Context:
    """The surroundings of one step.

    `original` is the upload, untouched; `teachers` are further models by id. `next_trains` tells a technique that it
    need not retrain by itself. `scratch` is a folder that it may write to.
    """

    original: Model
    dataset: Dataset | None
    scratch: Path
    progress: Progress
    teachers: Mapping[str, Model] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 2
    seed: int = 0
    next_trains: bool = False


@dataclass(frozen=True)
class Outcome:
    """The changed model, what is worth telling about it, and the training curve if it trained."""

    model: Model
    notes: tuple[str, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
