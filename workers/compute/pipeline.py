"""A compress order: takes a model through the steps of a recipe, guards, publishes, reports.

Knows no technique by name. Validation rows steer, test rows are touched once, at the end.
"""

import shutil
import time
from pathlib import Path

from app.contracts.steps.base import StepSpec
from app.contracts.tasks import CompressOrder, Done
from app.errors import ModelpressError
from workers.compute.bench import Bench, set_up
from workers.compute.channel import Channel
from workers.compute.failure import FailedWithReport
from workers.compute.finishing import Finished, finish
from workers.compute.graph.model import save
from workers.compute.guarding import refusal
from workers.compute.stages import Route, Stage
from workers.compute.stepping import Taken, pack_alone, place, take_step

# Weights of the stages; training takes most of a job's time.
_SET_UP, _FINISH, _TRAINING, _PLAIN = 2.0, 4.0, 20.0, 4.0


def run(order: CompressOrder, scratch: Path, channel: Channel) -> Done:
    """Compress; leaves `out/packed.onnx` and `out/dense.onnx`.

    Raises what importers, readers and techniques raise, and FailedWithReport when the guard is not met.
    """
    started = time.monotonic()
    route = Route(channel, _stages(order))
    route.enter()
    bench = set_up(order, scratch, route)
    dense = place(scratch, "step-none")
    save(bench.source, dense)
    route.enter()
    taken = _pointed(bench, None, dense, 0) if order.recipe.steps else pack_alone(bench, dense)
    reports = [taken.report]
    for index in range(1, len(order.recipe.steps)):
        route.enter()
        _tell(channel, taken)
        before, taken = taken, _pointed(bench, taken, taken.dense, index)
        for file in (before.dense, before.file):
            shutil.rmtree(file.parent)
        reports.append(taken.report)
    route.enter()
    _tell(channel, taken)
    refused = refusal(bench, taken, reports, started)
    report = finish(bench, Finished(taken, reports, started, refused))
    if refused is not None:
        raise FailedWithReport(refused.error, report)
    return Done(report=report)


def _stages(order: CompressOrder) -> list[Stage]:
    steps = order.recipe.steps
    named = [Stage(f"{i}/{len(steps)} {step.technique}", _weight(step)) for i, step in enumerate(steps, 1)]
    named = named or [Stage("packing", _PLAIN)]
    return [Stage("measuring the original", _SET_UP), *named, Stage("measuring the result", _FINISH)]


def _weight(step: StepSpec) -> float:
    return _TRAINING if step.may_train else _PLAIN


def _pointed(bench: Bench, before: Taken | None, dense: Path, index: int) -> Taken:
    """Take a step; an error of the technique is made to point at the step in the request."""
    try:
        if before is None:
            return take_step(bench, bench.source, dense, index)
        return take_step(bench, before.model, dense, index, before.assistant)
    except ModelpressError as error:
        if not error.errors:
            error.errors = ((f"/recipe/steps/{index}", error.detail),)
        raise


def _tell(channel: Channel, taken: Taken) -> None:
    measured = taken.report.measurement
    scores = measured.quality.scores if measured.quality else {}
    told = [f"{measured.file_bytes:,} bytes", *(f"{name} {score.value:.4f}" for name, score in scores.items())]
    channel.log(f"{taken.report.technique}: {', '.join(told)}. {'; '.join(taken.report.notes)}".strip())
