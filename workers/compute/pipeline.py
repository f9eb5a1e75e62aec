"""A compress order: takes a model through the steps of a recipe, guards, runs the controls, publishes, reports.

Knows no technique by name. Validation rows steer, test rows are touched once, at the end.
"""

from pathlib import Path

from app.contracts.tasks import CompressOrder, Done
from workers.compute.bench import Bench, set_up
from workers.compute.channel import Channel
from workers.compute.checkpoints import Checkpoints
from workers.compute.controls import run_controls
from workers.compute.courses import main_course, stages_of
from workers.compute.failure import FailedWithReport
from workers.compute.finishing import Finished, finish
from workers.compute.graph.model import save
from workers.compute.guarding import refusal
from workers.compute.stages import Route
from workers.compute.stepping import Walked, pack_alone, place, walk


def run(order: CompressOrder, scratch: Path, channel: Channel) -> Done:
    """Compress; leaves `out/packed.onnx` and `out/dense.onnx`.

    Raises what importers, readers and techniques raise, and FailedWithReport when the guard is not met.
    """
    checkpoints = Checkpoints(order, scratch, channel)
    started = checkpoints.began("job")
    route = Route(channel, stages_of(order.recipe))
    route.enter()
    bench = set_up(order, scratch, route, checkpoints)
    dense = place(scratch, "upload")
    save(bench.source, dense)
    walked = walk(bench, main_course(order.recipe), dense) if order.recipe.steps else _packed(bench, dense)
    refused = refusal(bench, order.guard, walked, started)
    beyond = refused or refusal(bench, order.explained, walked, started)
    controls, failures = run_controls(bench, dense) if refused is None else ([], [])
    route.enter_last()
    report = finish(bench, Finished(walked, controls, failures, started, refused, beyond.causes if beyond else None))
    if refused is not None:
        raise FailedWithReport(refused.error, report)
    return Done(report=report)


def _packed(bench: Bench, dense: Path) -> Walked:
    bench.route.enter()
    taken = pack_alone(bench, dense)
    return Walked(taken, [taken.report])
