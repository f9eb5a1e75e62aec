"""What coarser values in one tensor alone do to a model's answers: which tensors bear them, and which do not."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from app.contracts.report import LayerDamage, Setting
from app.errors import ModelUnsupported, RuntimeRefused, TechniqueNotApplicable
from workers.compute.autograd.losses import heads_for
from workers.compute.autograd.prediction import predict
from workers.compute.bench import Bench
from workers.compute.datasets.samples import Dataset
from workers.compute.graph.model import Model
from workers.compute.graph.precision import short
from workers.compute.graph.readers import Reader, matrices, output_axis
from workers.compute.graph.signs import magnitudes, nearest

Answers = Mapping[str, NDArray[np.generic]]
# Damage is measured on this many validation rows at most, and on fewer of a model with many tensors, so that looking
# costs no more than some 4,096 rows of inference; 32 rows still rank tensors.
_ROWS, _LEAST_ROWS, _BUDGET_ROWS = 256, 32, 4096
_MOST_PARAMETERS = 500_000_000
_MIN_SIZE = 512  # smaller tensors stay as they are in every recipe
_LARGEST_INT8 = 127
_TERNARY_THRESHOLD = 0.7  # of Li & Liu, 2016, as `ternarize` has it
_SETTINGS: tuple[Setting, ...] = ("int8", "ternary")


def sensitivity(
    bench: Bench, dataset: Dataset, tell: Callable[[float, None], None], limit_s: float = math.inf
) -> list[LayerDamage]:
    """Round one tensor at a time, all others left alone, and tell how far the answers move, worst first.

    The largest tensors come first; what `limit_s` has no time for is left out. Nothing is told of a model that is too
    large to hold twice, or that only ONNX Runtime can run.
    """
    found = list[LayerDamage]()
    if bench.baseline.parameters > _MOST_PARAMETERS:
        return found
    with suppress(ModelUnsupported, RuntimeRefused, TechniqueNotApplicable):
        found.extend(_damages(bench, dataset, tell, limit_s))
    return sorted(found, key=lambda each: (-each.damage, each.tensor, each.setting))


def _damages(
    bench: Bench, dataset: Dataset, tell: Callable[[float, None], None], limit_s: float
) -> Iterator[LayerDamage]:
    until = time.monotonic() + limit_s
    readers = matrices(bench.source)
    sizes = {name: bench.source.read(name).size for name in readers}
    largest = sorted((name for name in readers if sizes[name] >= _MIN_SIZE), key=lambda name: (-sizes[name], name))
    trials = [(name, setting) for name in largest for setting in _SETTINGS]
    most = _ROWS if limit_s == math.inf else _LEAST_ROWS
    rows = dataset.validation.take(slice(0, int(np.clip(_BUDGET_ROWS // max(1, len(trials)), _LEAST_ROWS, most))))
    names = [head.logits for head in heads_for(bench.source, dataset.task)]

    def answers(model: Model) -> Answers:
        found = predict(model, rows, device=bench.device, threads=bench.order.threads, capture=names)
        return {name: found[name].astype(np.float64) for name in names}

    own = answers(bench.source)
    for done, (name, setting) in enumerate(trials):
        if time.monotonic() > until:
            break
        tell(done / len(trials), None)
        model = bench.source.clone()
        values = model.read_floats(name)
        model.write(name, rounded(values, readers[name], setting).astype(values.dtype))
        yield LayerDamage(
            tensor=name,
            operator=readers[name].node.op_type,
            parameters=values.size,
            setting=setting,
            damage=damage(own, answers(model)),
        )


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
