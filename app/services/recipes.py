"""What can be said about a recipe or a goal before anything is opened: what it refers to and what it needs."""

from collections.abc import Iterator

from app.contracts.dataset import Dataset
from app.contracts.interface import difference
from app.contracts.job import JobCreate
from app.contracts.model import CheckState, Model
from app.contracts.trigger import TriggerCreate
from app.errors import BadInput, Conflict
from app.services.caller import Caller
from app.services.datasets import dataset_of
from app.services.models import model_of
from app.stores import records
from app.stores.tables import datasets, models

_CHECK_WAIT_S = 2
_OF_CLASSES = frozenset({"accuracy", "macro_recall", "macro_f1"})
_WITH_CLASSES = frozenset({"classification", "multilabel"})
Fault = tuple[str, str]


def refuse_impossible(
    tx: records.Transaction, caller: Caller, request: JobCreate, *, awaits: str | None = None
) -> None:
    """Raise BadInput with a pointer to each thing that cannot work; Conflict while an input is still being checked.

    The model `awaits` may be: its job waits for it.
    """
    faults = [*faults_of_goal(request), *_data_faults(request), *_reference_faults(tx, caller, request, awaits)]
    if faults:
        pointer, said = faults[0]
        raise BadInput(f"{pointer}: {said}", errors=faults)


def faults_of_goal(request: JobCreate | TriggerCreate) -> Iterator[Fault]:
    """Yield a pointer and what is wrong for each thing of a goal, if there is one, that cannot be reached."""
    goal, task = request.goal, request.task
    if goal is None:
        return
    if request.dataset is None:
        yield "/dataset", "a goal is measured on validation rows, so it needs a data set"
    metric = goal.metric_of(task)
    if (metric == "r2" and task != "regression") or (metric in _OF_CLASSES and task not in _WITH_CLASSES):
        yield "/goal/metric", f"{metric} is not measured for the task {task}; leave it out, or take agreement"
    if goal.max_recall_drop is not None and task not in _WITH_CLASSES:
        yield "/goal/max_recall_drop", f"the task {task} has no classes; leave it out, max_drop holds the metric"


def _data_faults(request: JobCreate) -> Iterator[Fault]:
    if request.recipe is None:
        return
    if request.dataset is None:
        for index, step in enumerate(request.recipe.steps):
            if step.data_needed:
                yield "/dataset", f"step {index} ({step.technique}) needs a data set"
        if request.guard is not None:
            yield "/guard", "a guard is measured on validation rows, so it needs a data set"
        if request.recipe.controls:
            yield (
                "/recipe/controls",
                "without a data set nothing trains, so there is nothing to compare; add a data set",
            )
    if request.task == "match":
        for index, kind in enumerate(request.recipe.controls):
            if kind == "without_teacher":
                yield f"/recipe/controls/{index}", "without a teacher only labels are left, and task `match` has none"
        for index, step in enumerate(request.recipe.steps):
            if step.needs_labels:
                yield f"/recipe/steps/{index}", f"{step.technique} needs labels, and the task `match` has none"


def _reference_faults(
    tx: records.Transaction, caller: Caller, request: JobCreate, awaits: str | None
) -> Iterator[Fault]:
    if request.model != awaits:
        yield from model_faults(tx, caller, "/model", request.model)
    if request.dataset is not None:
        row = records.find(tx, datasets, caller.tenant, request.dataset)
        yield from _faults_of("/dataset", "data set", dataset_of(row) if row else None)
    steps = request.recipe.steps if request.recipe is not None else []
    for index, step in enumerate(steps):
        for option, named in step.models.items():
            yield from model_faults(tx, caller, f"/recipe/steps/{index}/{option}", named)
        if step.replacement is not None:
            for why in _misfits(tx, caller, request.model, step.models[step.replacement]):
                yield f"/recipe/steps/{index}/{step.replacement}", why
    for index in [index for index, step in enumerate(steps) if step.mixes and request.dataset]:
        for why in _unmixable(tx, caller, request.model):
            yield f"/recipe/steps/{index}/mixup", why


def _unmixable(tx: records.Transaction, caller: Caller, model_id: str) -> Iterator[str]:
    """Yield what keeps a model's rows from being mixed, as far as its check has told."""
    row = records.find(tx, models, caller.tenant, model_id)
    summary = model_of(row).summary if row else None
    whole = [f"{spec.name} ({spec.dtype})" for spec in summary.inputs if not spec.floating] if summary else []
    if whole:
        yield f"rows are mixed in floating-point inputs alone, and this model takes {', '.join(whole)}; set mixup to 0"


def _misfits(tx: records.Transaction, caller: Caller, model_id: str, stand_in_id: str) -> Iterator[str]:
    """Yield what keeps a model from taking another's place, as far as their checks have told."""
    rows = [records.find(tx, models, caller.tenant, name) for name in (model_id, stand_in_id)]
    tokenizers = {row["tokenizer_sha256"] for row in rows if row and row["tokenizer_sha256"]}
    summaries = [found for row in rows if row and (found := model_of(row).summary)]
    if len(summaries) == len(rows) and (why := difference(*summaries)):
        yield f"this model cannot take the upload's place: {why}; export it with the same inputs and outputs"
    if len(tokenizers) > 1:
        yield "this model was made for another tokenizer than the upload; name one that shares the upload's"


def model_faults(tx: records.Transaction, caller: Caller, pointer: str, model_id: str) -> Iterator[Fault]:
    """Yield what stands against using this model; raises Conflict while it is still being checked."""
    row = records.find(tx, models, caller.tenant, model_id)
    yield from _faults_of(pointer, "model", model_of(row) if row else None)


def _faults_of(pointer: str, noun: str, found: Model | Dataset | None) -> Iterator[Fault]:
    if found is None:
        yield pointer, f"there is no {noun} with this id"
    elif found.state == CheckState.CHECKING:
        msg = f"The {noun} {found.id} is still being checked. Try again in {_CHECK_WAIT_S} seconds."
        raise Conflict(msg, retry_after_s=_CHECK_WAIT_S)
    elif found.state == CheckState.REJECTED:
        name = f" ({found.error.name})" if found.error else ""
        yield pointer, f"the {noun} was rejected by its check{name}"
