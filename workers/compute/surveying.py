"""A survey order: what recipes can be made of a model, and what coarser values in each of its tensors would cost."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

from app.contracts.recipe import Packing, Recipe
from app.contracts.report import Latency
from app.contracts.survey import Survey
from app.contracts.tasks import LOGITS, CompressOrder, Done, SurveyOrder
from app.errors import ModelpressError
from workers.compute.autograd.logits import asked_by_default
from workers.compute.bench import Bench, set_up
from workers.compute.channel import Channel
from workers.compute.checkpoints import Checkpoints
from workers.compute.graph.batch_norm import sites
from workers.compute.graph.dimensions import couple
from workers.compute.graph.model import FLOATS, load, save
from workers.compute.graph.readers import matrices
from workers.compute.graph.spans import spans
from workers.compute.graph.targets import is_table
from workers.compute.importers.folding import fold
from workers.compute.layer_damage import Surroundings, least_harmful
from workers.compute.measuring import Races, quieter
from workers.compute.memory import loading
from workers.compute.sensitivity import sensitivity
from workers.compute.stages import Route, Stage
from workers.compute.techniques import TECHNIQUES
from workers.compute.techniques.base import Context

_RACE_S = 0.6  # per batch size
_LOOKING = 0.03  # of the budget: it explains what a search found, and decides nothing


def run(order: SurveyOrder, scratch: Path, channel: Channel) -> Done:
    """Look at the model and its data; leaves `out/logits`. Raises what importers and readers raise."""
    route = Route(
        channel,
        [
            Stage("measuring the original", 1.0),
            Stage(f"trying {order.low.steps[0].technique}", 0.5),
            Stage(f"trying {order.narrow.steps[0].technique}", 0.5),
            Stage("looking for sensitive layers", 2.0),
            Stage("ranking layers", 2.0),
            Stage("asking the original", 2.0),
            Stage("measuring the original", 1.0),
        ],
    )
    route.enter()
    asked = _as_compression(order)
    bench = set_up(asked, scratch, route, Checkpoints(asked, scratch, channel))
    _, resident = loading(bench.original.path, bench.original.options)
    route.enter()
    low = _changed(bench, order.low)
    route.enter()
    kinds = Counter(group.kind for group in couple(bench.source).groups if not group.normalized)
    tables = sum(is_table(bench.source, name) for name in matrices(bench.source))
    narrows = kinds["neurons"] + kinds["channels"] > 0 and not tables + kinds["heads"]
    narrow = _changed(bench, order.narrow) if narrows else None
    early = {file: bench.races(file, _RACE_S) for file in (bench.original.path, low, narrow) if file}
    route.enter()
    limit_s = _LOOKING * order.goal.budget_s
    layers = sensitivity(bench, bench.dataset, bench.route.tell, limit_s) if bench.dataset else []
    route.enter()
    removal = _removal(bench)
    route.enter()
    _ask(bench, scratch / "out" / LOGITS)
    route.enter()
    # A neighbour on the same hardware can slow all calls down for minutes; what lies between took about as long.
    raced: dict[Path | None, Races] = {
        file: quieter(first, bench.races(file, _RACE_S)) for file, first in early.items()
    }
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
            p50_ms=min(_at(theirs, order.goal.batch_size).p50_ms for _, theirs in raced.values()),
            low_faster=_faster(raced.get(low), order.goal.batch_size),
            narrow_faster=_faster(raced.get(narrow), order.goal.batch_size),
            layers=len(spans(bench.source)),
            removal=removal,
            tables=tables,
            neurons=kinds["neurons"] + kinds["hidden units"],
            heads=kinds["heads"],
            channels=kinds["channels"],
            batch_norms=len(list(sites(bench.source))),
            sensitivity=layers,
        )
    )


def _removal(bench: Bench) -> list[int]:
    """Return which layers to leave out first, so that not every candidate has to find out."""
    layers = spans(bench.source)
    if len(layers) <= 1 or bench.dataset is None or not len(bench.dataset.validation):
        return []
    tell = bench.route.tell
    where = Surroundings(bench.dataset, bench.device, bench.order.threads, lambda share: tell(share, None))
    try:
        return [index + 1 for index in least_harmful(bench.source, layers, len(layers) - 1, where)[0]]
    except ModelpressError:  # the candidates say why it cannot be told
        return []


def _ask(bench: Bench, file: Path) -> None:
    """Ask the original once for what every candidate learns from it and is measured against."""
    if bench.ground is None or not len(bench.ground.dataset.train):
        return
    settings = (bench.device, bench.order.threads, bench.order.seed)
    known = bench.logits
    with suppress(ModelpressError):  # the candidates that need it say why it cannot be asked
        model = fold(load(bench.original.path))  # candidates have steps, so weights are taken out of their formats
        known = asked_by_default(model, bench.ground.dataset, settings, lambda share: bench.route.tell(share, None))
    bench.ground.test_judge()
    known.take(bench.logits)
    known.save(file)


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


def _changed(bench: Bench, recipe: Recipe) -> Path | None:
    """Return the file that a recipe makes of the model; None if it cannot."""
    folder = bench.scratch / recipe.steps[0].technique
    folder.mkdir()
    context = Context(
        original=bench.source,
        dataset=bench.dataset,
        scratch=folder,
        progress=bench.route.tell,
        device=bench.device,
        threads=bench.order.threads,
        seed=bench.order.seed,
    )
    model = bench.source.clone()
    try:
        for step in recipe.steps:
            model = TECHNIQUES[step.technique](model, step, context).model
    except ModelpressError:  # the candidates say why
        return None
    save(model, folder / "model.onnx")
    return folder / "model.onnx"


def _faster(raced: Races | None, batch_size: int) -> float | None:
    """Return how many times as fast as the original a file was, if there is one."""
    ratio = _at(raced[0], batch_size).ratio if raced else None
    return ratio.value if ratio else None


def _at(found: list[Latency], batch_size: int) -> Latency:
    """Return the latency at a batch size, or at the only one that the model has."""
    return next((each for each in found if each.batch_size == batch_size), found[0])
