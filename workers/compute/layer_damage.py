"""Which layers of a model do least harm when they are left out (Sajjad et al., 2020, arXiv 2004.03844)."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from workers.compute.autograd.losses import Objective, heads_for
from workers.compute.autograd.prediction import predict, threads_set
from workers.compute.datasets.samples import Dataset
from workers.compute.graph.model import Model
from workers.compute.graph.spans import Span, remove

# Damage is measured on this many validation rows at most, and on fewer where many removals are tried, so that a
# search costs no more than some 4,096 rows of inference; 64 rows still rank layers.
_ROWS, _LEAST_ROWS, _BUDGET_ROWS = 256, 64, 4096


@dataclass(frozen=True)
class Surroundings:
    """Where damage is measured, and who hears the share that is done."""

    dataset: Dataset
    device: str
    threads: int
    tell: Callable[[float], None]


def least_harmful(model: Model, layers: Sequence[Span], count: int, where: Surroundings) -> tuple[list[int], float]:
    """Leave out the layer that does least damage, `count` times over; return the indices in turn and the damage of all.

    Raises TechniqueNotApplicable for a model without an output of scores, and what the executor raises.
    """
    trials = sum(len(layers) - gone for gone in range(count))
    judge = _Judge(model, where, int(np.clip(_BUDGET_ROWS // max(1, trials), _LEAST_ROWS, _ROWS)))
    removed: list[int] = []
    damage = done = 0.0
    for _ in range(count):
        scores = {}
        for index in range(len(layers)):
            if index not in removed:
                scores[index] = judge.damage([layers[gone] for gone in (*removed, index)])
                done += 1
                where.tell(done / trials)
        best = min(scores, key=lambda index: (scores[index], index))
        removed.append(best)
        damage = scores[best]
    return removed, damage


class _Judge:
    """How far answers move from the model's own on some validation rows: KL divergence, or relative squared error."""

    def __init__(self, model: Model, where: Surroundings, rows: int) -> None:
        self._model, self._where = model, where
        self._samples = where.dataset.validation.take(slice(0, rows))
        self._task = where.dataset.task
        self._answers = [torch.from_numpy(answer) for answer in self._ask(model)]
        spreads = tuple(float(answer.double().var()) or 1.0 for answer in self._answers)
        self._objective = Objective(self._task, heads_for(model, self._task), 0.0, 1.0, spreads)

    def _ask(self, model: Model) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
        logits = [head.logits for head in heads_for(model, self._task)]
        found = predict(model, self._samples, device=self._where.device, threads=self._where.threads, capture=logits)
        yield from (found[name] for name in logits)

    def damage(self, removed: Collection[Span]) -> float:
        """Return the divergence without the given layers."""
        smaller = remove(self._model, removed)
        names = (head.logits for head in self._objective.heads)
        answers = {name: torch.from_numpy(answer) for name, answer in zip(names, self._ask(smaller), strict=True)}
        with threads_set(self._where.threads):
            return float(self._objective.loss(answers, None, self._answers))
