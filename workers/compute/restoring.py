"""What the result would score with tensors put back as they were in the upload. Knows no technique and no options."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from app.contracts.causes import RestoredLayer
from app.contracts.report import TensorReport
from workers.compute.attribution import pair_of
from workers.compute.bench import Bench
from workers.compute.datasets.samples import Samples
from workers.compute.evaluation import predict
from workers.compute.graph.model import Model, save
from workers.compute.runtime import open_session
from workers.compute.scoring import Judge, Scores
from workers.compute.stepping import Taken, place

MOST_ROWS = 512
_MOST_LAYERS = 12


class Trials(Protocol):
    """Tries tensors of the upload in the result."""

    @property
    def in_time(self) -> bool:
        """Whether there is time for another one."""

    def together(self, restored: Sequence[str]) -> float:
        """Return the guard's metric with these tensors of the upload."""

    def meets(self, score: float) -> bool:
        """Whether the guard allows it."""


@dataclass(frozen=True)
class Trial:
    """The result, its first validation rows, and how they are judged. `end` is when to stop trying, monotonic."""

    bench: Bench
    last: Taken
    rows: Samples
    judge: Judge
    metric: str
    max_drop: float
    end: float

    @property
    def in_time(self) -> bool:
        """Whether there is time for another one."""
        return time.monotonic() < self.end

    def scores(self, restored: Sequence[str] = ()) -> Scores:
        """Return what the result answers with these tensors of the upload."""
        model = self.last.model.clone()
        for name in restored:
            model.write(name, self.bench.source.read(name))
        file = place(self.bench.scratch, "restored")
        save(model, file)
        found = predict(open_session(file, self.bench.original.options), self.rows)
        shutil.rmtree(file.parent)
        return found

    def together(self, restored: Sequence[str]) -> float:
        """Return the guard's metric with these tensors of the upload."""
        return self.score(self.scores(restored))

    def score(self, scores: Scores) -> float:
        """Return the guard's metric."""
        return self.judge.quality(scores).scores[self.metric].value

    def meets(self, score: float) -> bool:
        """Whether the guard allows it, on these rows."""
        return self.score(self.judge.original) - score <= self.max_drop


def trial(bench: Bench, last: Taken, metric: str, max_drop: float, end: float) -> Trial | None:
    """Return what to try on, or None without data."""
    if bench.dataset is None or bench.judge is None:
        return None
    first = slice(0, MOST_ROWS)
    labels = None if bench.judge.labels is None else bench.judge.labels[first]
    judge = replace(bench.judge, labels=labels, original=bench.judge.original[first])
    return Trial(bench, last, bench.dataset.validation.take(first), judge, metric, max_drop, end)


def changed(source: Model, last: Taken) -> dict[str, float]:
    """Return the tensors that can be put back, those that changed most first, with their relative errors."""
    errors: dict[str, float] = {}
    for name in (tensor.name for tensor in last.packed.tensors):
        pair = pair_of(name, source, last.model)
        if pair is None or np.array_equal(*pair) or source.read(name).dtype != last.model.read(name).dtype:
            continue
        old, new = (values.astype(np.float64).ravel() for values in pair)
        errors[name] = float(np.linalg.norm(new - old) / (np.linalg.norm(old) or 1.0))
    return dict(sorted(errors.items(), key=lambda item: (-item[1], item[0])))


def restored(on: Trial, errors: Mapping[str, float], base: float) -> list[RestoredLayer]:
    """Put back one tensor at a time, at most twelve and while there is time; `base` is the result's score."""
    tensors = {tensor.name: tensor for tensor in on.last.packed.tensors}
    found = []
    for name, error in list(errors.items())[:_MOST_LAYERS]:
        if not on.in_time:
            break
        found.append(_layer(on, tensors[name], error, base))
    return found


def _layer(on: Trial, tensor: TensorReport, error: float, base: float) -> RestoredLayer:
    score = on.together([tensor.name])
    return RestoredLayer(
        tensor=tensor.name,
        operator=tensor.operator,
        relative_error=error,
        score=score,
        gain=score - base,
        dense_bytes=tensor.dense_bytes,
        packed_bytes=tensor.packed_bytes,
        meets=on.meets(score),
    )


def cheapest(
    on: Trials, layers: Sequence[RestoredLayer], changed_count: int, base: float
) -> tuple[list[RestoredLayer], float]:
    """Return the layers to put back, fewer than `changed_count`, and the score then.

    The one that costs least of those that meet the guard alone; else several together, those that gain most for a byte
    first, until they meet it or there is no time; else the one that gains most; no layer where none gains.
    """
    if changed_count == 1:  # that would be the upload
        return [], base
    if alone := [layer for layer in layers if layer.meets]:
        best = min(alone, key=lambda layer: (extra_bytes(layer), -layer.score, layer.tensor))
        return [best], best.score
    helpful = sorted((layer for layer in layers if layer.gain > 0), key=lambda layer: (-_worth(layer), layer.tensor))
    if not helpful:
        return [], base
    best = max(helpful, key=lambda layer: layer.score)
    for count in range(2, min(len(helpful) + 1, changed_count)):
        if not on.in_time:
            break
        score = on.together([layer.tensor for layer in helpful[:count]])
        if on.meets(score):
            return helpful[:count], score
    return [best], best.score


def extra_bytes(layer: RestoredLayer) -> int:
    """Return what putting it back adds to the file."""
    return layer.dense_bytes - layer.packed_bytes


def _worth(layer: RestoredLayer) -> float:
    return layer.gain / max(1, extra_bytes(layer))
