"""Remove whole layers: residual spans and repeats, least harmful first (Sajjad et al., 2020)."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch

from app.contracts.steps.prune_layers import PruneLayers
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.losses import Objective, heads_for
from workers.compute.autograd.prediction import predict, threads_set
from workers.compute.datasets.samples import Samples
from workers.compute.graph.model import Model
from workers.compute.graph.spans import Span, remove, spans
from workers.compute.techniques.base import Context, Outcome, retrain

# Damage is measured on this many validation rows at most, and on fewer where many removals are tried, so that a
# search costs no more than some 4,096 rows of inference; 64 rows still rank layers.
_ROWS, _LEAST_ROWS, _BUDGET_ROWS = 256, 64, 4096
_LEAST_LAYERS = 2


def apply(model: Model, spec: PruneLayers, context: Context) -> Outcome:
    """Return a copy with `keep` layers, retrained, or as it is where there are no more.

    Raises TechniqueNotApplicable where no layer is found, and where one is of which half should be kept.
    """
    layers = spans(model)
    if len(layers) < (_LEAST_LAYERS if spec.keep is None else 1):
        raise TechniqueNotApplicable(_found(layers))
    keep = max(1, len(layers) // 2) if spec.keep is None else spec.keep
    if keep >= len(layers):
        noun = "layer" if len(layers) == 1 else "layers"
        note = f"the model has {len(layers)} removable {noun}, no more than the {keep} to keep: nothing was removed"
        return Outcome(model.clone(), (note,))
    removed, notes = _chosen(model, layers, keep, spec, context)
    pruned = remove(model, [layers[index] for index in removed])
    numbers = ", ".join(str(index + 1) for index in removed)
    noun = "layer" if len(removed) == 1 else "layers"
    notes = (*notes, f"removed {noun} {numbers} of {len(layers)}")
    return Outcome(pruned, notes, retrain(pruned, spec, context))


def _found(layers: Sequence[Span]) -> str:
    what = "one removable layer" if layers else "no removable layers"
    return (
        f"the graph has {what}: layers are regions with one way in and one way out, of equal shape, that repeat or are "
        "skipped by a residual addition; prune_weights or share_weights work on any model"
    )


def _chosen(
    model: Model, layers: Sequence[Span], keep: int, spec: PruneLayers, context: Context
) -> tuple[list[int], tuple[str, ...]]:
    """Return the indices to remove, ascending, and notes."""
    count = len(layers)
    if spec.order == "damage" and context.dataset is not None and len(context.dataset.validation):
        removed, damage = _least_harmful(model, layers, count - keep, context)
        return sorted(removed), (f"damage of what was removed, before retraining: {damage:.4g} (divergence)",)
    kept = {
        "first": range(keep),
        "last": range(count - keep, count),
    }.get(spec.order, np.linspace(0, count - 1, keep).round().astype(int).tolist() if keep > 1 else [0])
    notes = (
        ("there is no data to measure damage on: the layers kept are evenly spread",) if spec.order == "damage" else ()
    )
    return [index for index in range(count) if index not in set(kept)], notes


def _least_harmful(model: Model, layers: Sequence[Span], count: int, context: Context) -> tuple[list[int], float]:
    """Remove the layer that does least damage, `count` times over; return the indices and the damage of all."""
    trials = sum(len(layers) - gone for gone in range(count))
    judge = _Judge(model, context, int(np.clip(_BUDGET_ROWS // trials, _LEAST_ROWS, _ROWS)))
    removed: list[int] = []
    damage = done = 0.0
    for _ in range(count):
        scores = {}
        for index in range(len(layers)):
            if index not in removed:
                scores[index] = judge.damage([layers[gone] for gone in (*removed, index)])
                done += 1
                context.progress(0.5 * done / trials, None)
        best = min(scores, key=lambda index: (scores[index], index))
        removed.append(best)
        damage = scores[best]
    return removed, damage


class _Judge:
    """How far answers move from the model's own on some validation rows: KL divergence, or relative squared error."""

    def __init__(self, model: Model, context: Context, rows: int) -> None:
        if context.dataset is None:
            msg = "a judge needs data"
            raise ValueError(msg)
        self._model, self._context = model, context
        self._samples: Samples = context.dataset.validation.take(slice(0, rows))
        self._task = context.dataset.task
        self._answers = [torch.from_numpy(answer) for answer in self._ask(model)]
        spreads = tuple(float(answer.double().var()) or 1.0 for answer in self._answers)
        self._objective = Objective(self._task, heads_for(model, self._task), 0.0, 1.0, spreads)

    def _ask(self, model: Model) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
        logits = [head.logits for head in heads_for(model, self._task)]
        found = predict(
            model, self._samples, device=self._context.device, threads=self._context.threads, capture=logits
        )
        yield from (found[name] for name in logits)

    def damage(self, removed: Collection[Span]) -> float:
        """Return the divergence without the given layers."""
        smaller = remove(self._model, removed)
        names = (head.logits for head in self._objective.heads)
        answers = {name: torch.from_numpy(answer) for name, answer in zip(names, self._ask(smaller), strict=True)}
        with threads_set(self._context.threads):
            return float(self._objective.loss(answers, None, self._answers))
