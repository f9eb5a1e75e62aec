"""What stays fixed while a recipe runs: the order, the upload, the data, the judge. Knows no technique."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from app.contracts.report import Measurement
from app.contracts.tasks import CompressOrder, InputModel
from app.errors import BadInput, TechniqueNotApplicable
from workers.compute import bundles
from workers.compute.autograd.logits import Logits
from workers.compute.checkpoints import Checkpoints
from workers.compute.datasets.fitting import Target
from workers.compute.datasets.loading import load_dataset
from workers.compute.datasets.samples import Dataset
from workers.compute.feeds import free_sizes
from workers.compute.graph.model import Model, load
from workers.compute.ground import Ground
from workers.compute.importers.folding import fold
from workers.compute.measuring import Original, Races, open_original, sized
from workers.compute.scoring import Judge
from workers.compute.stages import Route
from workers.compute.tensor_files import Unreadable

# What training itself measures on validation rows.
_COUNTED = "accuracy"


@dataclass(frozen=True)
class Bench:
    """The surroundings of a recipe. `judge` and `baseline.quality` speak of validation rows; None without data."""

    order: CompressOrder
    scratch: Path
    route: Route
    original: Original
    source: Model
    models: dict[str, Model]
    dataset: Dataset | None
    ground: Ground | None
    judge: Judge | None
    baseline: Measurement
    sizes: dict[str, int]
    device: str
    checkpoints: Checkpoints
    logits: Logits  # of the upload

    @property
    def is_candidate(self) -> bool:
        """Whether a search asks, which has looked at the original itself and compares ends, not the steps to them."""
        return self.order.explained is not None

    @property
    def floor(self) -> float | None:
        """The accuracy on validation rows that a guard or a search's goal asks for, if one asks for accuracy."""
        wanted, quality = self.order.guard or self.order.explained, self.baseline.quality
        if wanted is None or quality is None or wanted.metric != _COUNTED:
            return None
        return quality.scores[_COUNTED].value - wanted.max_drop

    def races(self, file: Path, seconds: float) -> Races:
        """Time a file against the upload on validation rows, or on made-up ones; so many seconds per batch size."""
        rows = self.dataset.validation if self.dataset else None
        return self.original.races(file, rows, seconds, self.order.seed)


def set_up(order: CompressOrder, scratch: Path, route: Route, checkpoints: Checkpoints) -> Bench:
    """Load everything and measure the upload on validation rows.

    Raises what importers and readers raise; TechniqueNotApplicable and BadInput for recipes that need other data.
    """
    torch.set_num_threads(order.threads)
    _refuse_missing_data(order)
    path = _opened(order.model, scratch, "original")
    original = open_original(path, order.threads)
    dataset = _dataset(order, scratch, original)
    _refuse_untaught(order, dataset)
    # Without steps the weights keep the operators that a runtime may calculate with as they are.
    source = fold(load(path), dequantize=bool(order.recipe.steps))
    sizes = free_sizes(original.signature.inputs, dataset.train if dataset else None)
    route.tell(0.5, None)
    logits = _logits(source, order, scratch)
    ground = _ground(order, original, dataset, logits)
    judge = ground.judge() if ground else None
    baseline = sized(source, path, sizes)
    if judge is not None:
        baseline = baseline.model_copy(update={"quality": judge.quality(judge.original)})
        _refuse_unmeasured_guard(order, baseline)
    return Bench(
        order=order,
        scratch=scratch,
        route=route,
        original=original,
        source=source,
        models={name: fold(load(_opened(named, scratch, name))) for name, named in order.models.items()},
        dataset=ground.dataset if ground else None,
        ground=ground,
        judge=judge,
        baseline=baseline,
        sizes=sizes,
        device=_device(order.device),
        checkpoints=checkpoints,
        logits=logits,
    )


def _opened(model: InputModel, scratch: Path, name: str) -> Path:
    return bundles.opened(scratch / model.path, scratch / "models" / name)


def _refuse_missing_data(order: CompressOrder) -> None:
    for index, step in enumerate(order.recipe.steps):
        at = f"/recipe/steps/{index}"
        if step.data_needed and order.dataset is None:
            why = f"{step.technique} needs a data set."
            raise TechniqueNotApplicable(why, errors=[(at, why)])
        if step.needs_labels and order.task == "match":
            why = f"{step.technique} needs labels, and task match has none; use distill with alpha 0."
            raise TechniqueNotApplicable(why, errors=[(at, why)])
    if order.guard is not None and order.dataset is None:
        why = "A guard needs a data set to be measured on."
        raise BadInput(why, errors=[("/guard", why)])


def _refuse_untaught(order: CompressOrder, dataset: Dataset | None) -> None:
    """Refuse, before any step, a control that would have nothing to learn from."""
    if "without_teacher" in order.recipe.controls and (dataset is None or not dataset.labelled):
        why = "Without a teacher only labels are left, and the data has none; leave the control without_teacher out."
        at = f"/recipe/controls/{order.recipe.controls.index('without_teacher')}"
        raise TechniqueNotApplicable(why, errors=[(at, why)])


def _refuse_unmeasured_guard(order: CompressOrder, baseline: Measurement) -> None:
    known = baseline.quality.scores if baseline.quality else {}
    if order.guard is not None and order.guard.metric not in known:
        why = f"Task {order.task} does not measure {order.guard.metric}; it measures {', '.join(known)}."
        raise BadInput(why, errors=[("/guard/metric", why)])


def _dataset(order: CompressOrder, scratch: Path, original: Original) -> Dataset | None:
    if order.dataset is None:
        return None
    tokenizer = scratch / order.model.tokenizer if order.model.tokenizer else None
    signature = original.signature
    target = Target(signature.inputs, signature.width, tuple(order.model.classes), tokenizer)
    return load_dataset(order.dataset, scratch, target, order.task)


def _ground(order: CompressOrder, original: Original, dataset: Dataset | None, logits: Logits) -> Ground | None:
    if order.dataset is None or dataset is None:
        return None
    return Ground(original, logits, order.seed, dataset).fair(order.dataset.splits.seed)


def _logits(source: Model, order: CompressOrder, scratch: Path) -> Logits:
    """Return what the upload is known to answer; a file that cannot be read costs time, not the job."""
    found = Logits(source)
    if order.logits is not None:
        with suppress(Unreadable, KeyError, OSError):
            found.load(scratch / order.logits)
    return found


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        why = "This worker has no CUDA device; use device auto or cpu."
        raise BadInput(why, errors=[("/device", why)])
    return wanted
