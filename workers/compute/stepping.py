"""The steps of a course, one after the other: apply, check the promises, pack, measure. Knows no technique by name."""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from app.contracts.report import Measurement, StepReport
from app.contracts.steps.base import StepSpec
from app.errors import ModelpressError
from workers.compute import bundles, promises
from workers.compute.bench import Bench
from workers.compute.checkpoints import Reached
from workers.compute.courses import Course
from workers.compute.encodings.packer import Packed, pack
from workers.compute.graph.model import Model, load, save
from workers.compute.graph.promise_records import settled
from workers.compute.measuring import judged, sized
from workers.compute.runtime import open_session
from workers.compute.techniques import TECHNIQUES
from workers.compute.techniques.base import Context

_APPLYING = 0.9  # the share of a step's time that the technique itself takes; the rest is measuring
_RACE_S = 0.4  # per batch size: enough to see whether a step helped; the report's figures take longer


@dataclass(frozen=True)
class Taken:
    """The model after a step, as saved dense and packed; `assistant` is what the last training left."""

    model: Model
    dense: Path
    packed: Packed
    file: Path
    report: StepReport
    assistant: Model | None = None


@dataclass(frozen=True)
class Stand:
    """Where a step begins: the model before it, in which file, and what to remove once the step is taken."""

    model: Model
    file: Path
    assistant: Model | None = None
    reports: tuple[StepReport, ...] = ()
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Walked:
    """A course taken to its end: the last step, and the reports of all."""

    last: Taken
    reports: list[StepReport]


def walk(bench: Bench, course: Course, upload: Path) -> Walked:
    """Take all steps of a course, one or more, from the upload on, whose dense file is `upload`.

    Of the files only the last step's are left. Raises what techniques raise, pointing at the step in the request, and
    ServiceFault when one breaks a promise.
    """
    stand = _resumed(bench, course) or Stand(bench.source, upload)
    reports, taken = list(stand.reports), None
    for index in range(len(reports), len(course.steps)):
        taken = _step(bench, course, index, stand)
        for folder in stand.folders:
            shutil.rmtree(folder)
        reports.append(taken.report)
        folders = (taken.dense.parent, taken.file.parent)
        stand = Stand(taken.model, taken.dense, taken.assistant, tuple(reports), folders)
        bench.checkpoints.leave(course, Reached(reports, taken.dense, taken.model.constraints, taken.assistant))
    return Walked(taken or _again(bench, course, stand), reports)


def _resumed(bench: Bench, course: Course) -> Stand | None:
    """Return where an earlier process left the course."""
    found = bench.checkpoints.reached(course)
    if found is None:
        return None
    bench.route.skip(len(found.reports))
    model = Model(load(found.file).ir, dict(found.promises))
    return Stand(model, found.file, found.assistant, tuple(found.reports), (found.file.parent,))


def _again(bench: Bench, course: Course, stand: Stand) -> Taken:
    """Return the last step, which an earlier process took, packed anew."""
    packed, file = _packed(bench, stand.model, course.folder("resumed-packed"))
    return Taken(stand.model, stand.file, packed, file, stand.reports[-1])


def _step(bench: Bench, course: Course, index: int, stand: Stand) -> Taken:
    """Take a step and tell of it; an error of the technique is made to point at what asked for it in the request."""
    bench.route.enter()
    try:
        taken = _take(bench, course, index, stand)
    except ModelpressError as error:
        if not error.errors:
            error.errors = ((course.pointer(index), error.detail),)
        raise
    _tell(bench, course, taken.report)
    return taken


def _tell(bench: Bench, course: Course, done: StepReport) -> None:
    measured = done.measurement
    scores = measured.quality.scores if measured.quality else {}
    told = [f"{measured.file_bytes:,} bytes", *(f"{name} {score.value:.4f}" for name, score in scores.items())]
    said = f"{course.title}{done.technique}: {', '.join(told)}. {'; '.join(done.notes)}"
    bench.route.channel.log(said.strip())


def _take(bench: Bench, course: Course, index: int, stand: Stand) -> Taken:
    """Apply step `index` to what the one before left, or to the upload."""
    started = bench.checkpoints.enter(course, index)
    before, assistant = stand.model, stand.assistant
    spec = course.steps[index]
    found: dict[str, None] = {}  # in order, and each but once: a technique may train in rounds
    context = replace(_context(bench, course, index, assistant), finding=found.setdefault)
    outcome = TECHNIQUES[spec.technique](before.clone(), spec, context)
    dense = place(bench.scratch, course.folder(f"step-{index}"))
    model = _settled(outcome.model, dense)
    constraints = promises.check(before, model, dense)
    packed, file = _packed(bench, model, course.folder(f"step-{index}-packed"))
    changed = bundles.digests(dense) != bundles.digests(stand.file)
    done = StepReport(
        index=index,
        technique=spec.technique,
        options=_options(spec),
        duration_s=time.monotonic() - started,
        changed=changed,
        notes=[*outcome.notes, *found, *_hastened(bench, packed), *([] if changed else ["This step changed nothing."])],
        curve=list(outcome.curve),
        measurement=_measure(bench, model, file, timed=course.control is None and not bench.is_candidate),
        constraints=constraints,
    )
    later = any(step.needs_trained for step in course.steps[index + 1 :])
    latest = model if outcome.curve else assistant
    return Taken(model, dense, packed, file, done, latest if later else None)


def _settled(model: Model, dense: Path) -> Model:
    """Save a model and return it as the file has it: what goes on from a checkpoint gets no other to go on from."""
    save(model, dense)
    return Model(load(dense).ir, settled(model.constraints))


def pack_alone(bench: Bench, dense: Path) -> Taken:
    """Only pack the upload, saved at `dense`: what a recipe without steps does, told as a step of that name."""
    started = time.monotonic()
    packed, file = _packed(bench, bench.source, "packed-alone")
    smaller = sum(tensor.encoding != "dense" for tensor in packed.tensors)
    done = StepReport(
        index=0,
        technique="pack",
        options={"max_load_ms": bench.order.recipe.max_load_ms},
        duration_s=time.monotonic() - started,
        changed=bool(smaller),
        notes=[f"{smaller} of {len(packed.tensors)} large tensors are stored smaller.", *_hastened(bench, packed)],
        measurement=_measure(bench, bench.source, file, timed=not bench.is_candidate),
    )
    return Taken(bench.source, dense, packed, file, done)


def _packed(bench: Bench, model: Model, folder: str) -> tuple[Packed, Path]:
    bench.route.tell(_APPLYING, None, "packing")
    packed, file = pack(model, bench.order.recipe.max_load_ms), place(bench.scratch, folder)
    save(packed.model, file)
    return packed, file


def _hastened(bench: Bench, packed: Packed) -> list[str]:
    limit = bench.order.recipe.max_load_ms
    if not packed.slow or limit is None:
        return []
    return [f"{packed.slow} tensors are stored larger than they could be: decoding may add {limit:g} ms to the load."]


def place(scratch: Path, name: str) -> Path:
    """Return where a model is saved: in a folder of its own, so that its files have the same names at every step."""
    folder = scratch / name
    folder.mkdir(exist_ok=True)
    return folder / "model.onnx"


def _context(bench: Bench, course: Course, index: int, assistant: Model | None) -> Context:
    folder = bench.scratch / "work"
    folder.mkdir(exist_ok=True)
    return Context(
        original=bench.source,
        dataset=bench.dataset,
        scratch=folder,
        progress=lambda share, point: bench.route.tell(_APPLYING * share, point),
        models=bench.models,
        assistant=assistant,
        replaced=any(step.replacement is not None for step in course.steps[:index]),
        device=bench.device,
        threads=bench.order.threads,
        seed=bench.order.seed,
        next_trains=course.next_trains(index),
        taught=course.taught,
        floor=bench.floor,
        logits=bench.logits,
        keeper=bench.checkpoints,
    )


def _options(spec: StepSpec) -> dict[str, object]:
    return spec.model_dump(mode="json", exclude={"technique"})


def _measure(bench: Bench, model: Model, file: Path, *, timed: bool) -> Measurement:
    bench.route.tell(_APPLYING, None, "measuring")
    quality = None
    rows = bench.dataset.validation if bench.dataset else None
    if rows is not None and bench.judge is not None:
        quality, _ = judged(open_session(file, bench.original.options), rows, bench.judge)
    latency = bench.races(file, _RACE_S)[0] if timed else []
    return sized(model, file, bench.sizes).model_copy(update={"quality": quality, "latency": latency})
