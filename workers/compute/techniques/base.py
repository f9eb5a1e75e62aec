"""What a technique is given, what it returns, and the retraining that follows its damage, the same for all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.contracts.report import CurvePoint
from app.contracts.steps.base import RetrainedSpec
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.keeping import NOTHING, Keeper
from workers.compute.autograd.logits import Logits
from workers.compute.autograd.training import Finding, Fit, OnStep, fit
from workers.compute.datasets.samples import Dataset
from workers.compute.graph.costs import cost
from workers.compute.graph.model import Model

# Weight of the labels against the upload's answers, and the temperature that softens those (Hinton et al., 2015).
_ALPHA, _TEMPERATURE = 0.5, 2.0
# Unless epochs are given there are at least so many steps: of a few hundred rows, one epoch repairs nothing.
LEAST_STEPS = 400

# Share of this step that is done (0 to 1) and the latest training point, if it trains.
Progress = Callable[[float, CurvePoint | None], None]


@dataclass(frozen=True)
class Context:
    """The surroundings of one step.

    `original` is the upload, untouched, and `logits` what it is known to answer as a teacher. `models` are those that
    the recipe names, by id. `assistant` is the model as the last step that trained left it, `replaced` whether another
    took the upload's place before. `next_trains` tells a technique that it need not retrain by itself. Unless `taught`,
    training goes by the labels alone. `floor` is the accuracy on validation rows that is wanted of the result.
    `scratch` is a folder that it may write to. `finding` hears what training found out by itself: a learning rate.
    `keeper` keeps each training for another process to go on from.
    """

    original: Model
    dataset: Dataset | None
    scratch: Path
    progress: Progress
    models: Mapping[str, Model] = field(default_factory=dict)
    assistant: Model | None = None
    replaced: bool = False
    device: str = "cpu"
    threads: int = 2
    seed: int = 0
    next_trains: bool = False
    taught: bool = True
    floor: float | None = None
    logits: Logits | None = None
    finding: Finding = lambda _words: None
    keeper: Keeper = NOTHING


@dataclass(frozen=True)
class Outcome:
    """The changed model, what is worth telling about it, and the training curve if it trained."""

    model: Model
    notes: tuple[str, ...] = ()
    curve: tuple[CurvePoint, ...] = ()


def planned_epochs(spec: RetrainedSpec, context: Context) -> float:
    """Return how long to retrain: as asked, else 1 epoch or more if there is data and the next step does not train.

    Raises TechniqueNotApplicable when retraining was asked for and there is no data.
    """
    if spec.epochs is None:
        if context.dataset is None or context.next_trains:
            return 0.0
        return lasting(1.0, spec.batch_size, context.dataset)
    if spec.epochs > 0 and context.dataset is None:
        msg = f"retraining for {spec.epochs:g} epochs needs data; attach a dataset, or set epochs to 0"
        raise TechniqueNotApplicable(msg)
    return spec.epochs


def lasting(epochs: float, batch_size: int, dataset: Dataset) -> float:
    """Return a default number of epochs, raised where the rows are so few that it would be under LEAST_STEPS steps."""
    per_epoch = -(-len(dataset.train) // batch_size)
    return max(epochs, LEAST_STEPS / max(1, per_epoch))


def retrain(
    model: Model, spec: RetrainedSpec, context: Context, on_step: OnStep | None = None
) -> tuple[CurvePoint, ...]:
    """Train `model` in place under its constraints, with the upload as teacher; return the curve, maybe empty.

    Where the context has no teacher, the labels alone are learned.
    """
    epochs = planned_epochs(spec, context)
    if epochs == 0 or context.dataset is None:
        return ()
    settings = Fit(
        epochs=epochs,
        learning_rate=spec.learning_rate,
        batch_size=spec.batch_size,
        patience=spec.patience,
        mixup=spec.mixup,
        alpha=_ALPHA if context.dataset.labelled else 0.0,
        temperature=_TEMPERATURE,
        floor=context.floor,
        seed=context.seed,
        device=context.device,
        threads=context.threads,
        logits=context.logits,
        finding=context.finding,
        keeper=context.keeper,
    )
    teacher = context.original if context.taught else None
    return fit(model, context.dataset, settings, teacher=teacher, progress=context.progress, on_step=on_step)


def shrunk(before: Model, after: Model) -> str:
    """Return a note on how much smaller a model has become."""
    old, new = cost(before), cost(after)
    macs = f", multiply-accumulates from {old.macs:,} to {new.macs:,}" if old.macs and new.macs else ""
    return f"parameters from {old.parameters:,} to {new.parameters:,}{macs}"


def dataset_of(context: Context, technique: str) -> Dataset:
    """Return the data, or refuse: this technique is nothing without."""
    if context.dataset is None:
        msg = f"{technique} needs data; attach a dataset to the job"
        raise TechniqueNotApplicable(msg)
    return context.dataset
