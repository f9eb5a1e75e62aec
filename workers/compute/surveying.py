"""A survey order: what recipes can be made of a model, and what coarser values in each of its tensors would cost."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.contracts.recipe import Packing, Recipe
from app.contracts.report import Latency
from app.contracts.search import LayerDamage, Setting
from app.contracts.survey import Survey
from app.contracts.tasks import CompressOrder, Done, SurveyOrder
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.losses import heads_for
from workers.compute.autograd.prediction import predict
from workers.compute.bench import Bench, set_up
from workers.compute.channel import Channel
from workers.compute.checkpoints import Checkpoints
from workers.compute.datasets.samples import Dataset
from workers.compute.graph.batch_norm import sites
from workers.compute.graph.dimensions import couple
from workers.compute.graph.model import FLOATS, Model, save
from workers.compute.graph.precision import short
from workers.compute.graph.readers import Reader, matrices, output_axis
from workers.compute.graph.signs import magnitudes, nearest
from workers.compute.graph.spans import spans
from workers.compute.graph.targets import is_table
from workers.compute.memory import loading
from workers.compute.stages import Route, Stage
from workers.compute.techniques import TECHNIQUES
from workers.compute.techniques.base import Context

Answers = Mapping[str, NDArray[np.generic]]
_RACE_S = 1.0
# Damage is measured on this many validation rows at most, and on fewer of a model with many tensors, so that looking
# costs no more than some 4,096 rows of inference; 32 rows still rank tensors.
_ROWS, _LEAST_ROWS, _BUDGET_ROWS = 256, 32, 4096
_MIN_SIZE = 512  # smaller tensors stay as they are in every recipe
_LARGEST_INT8 = 127
_TERNARY_THRESHOLD = 0.7  # of Li & Liu, 2016, as `ternarize` has it
_SETTINGS: tuple[Setting, ...] = ("int8", "ternary")


def run(order: SurveyOrder, scratch: Path, channel: Channel) -> Done:
    """Look at the model and its data; leaves no file. Raises what importers and readers raise."""
    route = Route(
        channel,
        [
            Stage("measuring the original", 1.0),
            Stage(f"trying {order.low.steps[0].technique}", 0.5),
            Stage("looking for sensitive layers", 2.0),
        ],
    )
    route.enter()
    asked = _as_compression(order)
    bench = set_up(asked, scratch, route, Checkpoints(asked, scratch, channel))
    rows = bench.dataset.validation if bench.dataset else None
    _, found = bench.original.races(bench.original.path, rows, _RACE_S, order.seed)
    _, resident = loading(bench.original.path, bench.original.options)
    route.enter()
    low_faster = _low_faster(bench, order)
    route.enter()
    kinds = Counter(group.kind for group in couple(bench.source).groups if not group.normalized)
    return Done(
        survey=Survey(
            rows=len(bench.dataset.train) if bench.dataset else 0,
            labelled=bench.dataset is not None and bench.dataset.labelled,
            floating_inputs=all(value.dtype in FLOATS for value in bench.source.graph.inputs),
            quality=bench.baseline.quality,
            parameters=bench.baseline.parameters,
            macs=bench.baseline.macs,
            file_bytes=bench.baseline.file_bytes,
            resident_bytes=resident,
            p50_ms=_at(found, order.goal.batch_size).p50_ms,
            low_faster=low_faster,
            layers=len(spans(bench.source)),
            tables=sum(is_table(bench.source, name) for name in matrices(bench.source)),
            neurons=kinds["neurons"] + kinds["hidden units"],
            heads=kinds["heads"],
            channels=kinds["channels"],
            batch_norms=len(list(sites(bench.source))),
            sensitivity=list(_sensitivity(bench, bench.dataset)) if bench.dataset else [],
        )
    )


def _as_compression(order: SurveyOrder) -> CompressOrder:
    """Return the order of a job on the same model and data that changes nothing."""
    return CompressOrder(
        model=order.model,
        dataset=order.dataset,
        task=order.task,
        recipe=Recipe(steps=[], pack=Packing()),
        guard=None,
        seed=order.seed,
        device=order.device,
        threads=order.threads,
    )


def _low_faster(bench: Bench, order: SurveyOrder) -> float | None:
    """Return how many times as fast the model answers after `order.low`, at the goal's batch size."""
    folder = bench.scratch / "low"
    folder.mkdir()
    context = Context(
        original=bench.source,
        dataset=bench.dataset,
        scratch=folder,
        progress=bench.route.tell,
        device=bench.device,
        threads=order.threads,
        seed=order.seed,
    )
    model = bench.source.clone()
    try:
        for step in order.low.steps:
            model = TECHNIQUES[step.technique](model, step, context).model
    except TechniqueNotApplicable:
        return None
    save(model, folder / "model.onnx")
    rows = bench.dataset.validation if bench.dataset else None
    found, _ = bench.original.races(folder / "model.onnx", rows, _RACE_S, order.seed)
    ratio = _at(found, order.goal.batch_size).ratio
    return ratio.value if ratio else None


def _at(found: list[Latency], batch_size: int) -> Latency:
    """Return the latency at a batch size, or at the only one that the model has."""
    return next((each for each in found if each.batch_size == batch_size), found[0])


def _sensitivity(bench: Bench, dataset: Dataset) -> Iterator[LayerDamage]:
    """Round one tensor at a time, all others left alone, and tell how far the answers move, worst first."""
    chosen = {name: each for name, each in matrices(bench.source).items() if bench.source.read(name).size >= _MIN_SIZE}
    trials = [(name, setting) for name in chosen for setting in _SETTINGS]
    rows = dataset.validation.take(slice(0, int(np.clip(_BUDGET_ROWS // max(1, len(trials)), _LEAST_ROWS, _ROWS))))
    names = [head.logits for head in heads_for(bench.source, dataset.task)]

    def answers(model: Model) -> Answers:
        found = predict(model, rows, device=bench.device, threads=bench.order.threads, capture=names)
        return {name: found[name].astype(np.float64) for name in names}

    own, found = answers(bench.source), list[LayerDamage]()
    for done, (name, setting) in enumerate(trials):
        bench.route.tell(done / len(trials), None)
        model = bench.source.clone()
        values = model.read_floats(name)
        model.write(name, rounded(values, chosen[name], setting).astype(values.dtype))
        found.append(
            LayerDamage(
                tensor=name,
                operator=chosen[name].node.op_type,
                parameters=values.size,
                setting=setting,
                damage=damage(own, answers(model)),
            )
        )
    yield from sorted(found, key=lambda each: (-each.damage, each.tensor, each.setting))


def rounded(values: NDArray[np.floating], reader: Reader, setting: Setting) -> NDArray[np.floating]:
    """Return the values of a weight as int8 or ternary ones, with a scale per output channel; same shape."""
    axis = output_axis(reader)
    if setting == "ternary":
        return nearest(values, axis, np.ones(values.shape, np.bool_), _TERNARY_THRESHOLD)
    scale = short(np.maximum(magnitudes(values, axis) / _LARGEST_INT8, np.finfo(np.float32).tiny))
    return np.asarray(np.rint(values / scale) * scale)


def damage(before: Answers, after: Answers) -> float:
    """Return the mean squared change of all answers over their variance; 0 when nothing changed."""
    errors = [float(np.square(after[name] - before[name]).mean()) for name in before]  # type: ignore[operator]
    spreads = [float(np.var(before[name].astype(np.float64))) or 1.0 for name in before]
    return float(np.mean([error / spread for error, spread in zip(errors, spreads, strict=True)]))
