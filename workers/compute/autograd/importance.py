"""How much each unit matters: by its weights, its activations, or what the loss says of it. Knows no technique."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.compute.autograd.batching import Batch, in_order, sequence_inputs
from workers.compute.autograd.dtypes import to_numpy
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.losses import Objective, heads_for
from workers.compute.autograd.prediction import resolve_device
from workers.compute.autograd.repeatability import repeatable
from workers.compute.datasets.samples import Dataset
from workers.compute.graph.dimensions import Coupling, Group
from workers.compute.graph.model import Model

Measure = Literal["magnitude", "activation_variance", "gradient_norm", "taylor"]
# By group: one number for each unit, larger matters more.
Scores = dict[str, NDArray[np.float64]]

_TINY = 1e-30
# Entries of a unit's activations that are kept where they are compared with one another.
_ENTRIES = 4096


@dataclass(frozen=True)
class Probe:
    """The rows that importance is measured on, and where. `rows` are taken from the training split, in batches."""

    dataset: Dataset
    rows: int = 512
    batch_size: int = 32
    device: str = "cpu"
    threads: int = 2
    seed: int = 0


def by_magnitude(model: Model, coupling: Coupling) -> Scores:
    """Return the root mean square of each unit's weights, in all tensors that it is a part of (Li et al., 2017)."""
    found = {}
    for group in coupling.groups:
        total, count = np.zeros(group.units), np.zeros(group.units)
        for member in group.members:
            weights = model.read_floats(member.tensor).astype(np.float64)
            total += _summed(weights**2, group, member.axis, member.units)
            count += _summed(np.ones_like(weights), group, member.axis, member.units)
        found[group.name] = np.sqrt(total / np.maximum(count, 1))
    return found


def by_activation_variance(model: Model, coupling: Coupling, probe: Probe) -> Scores:
    """Return the variance of each unit's activation over rows and positions: what hardly varies is a bias.

    A group whose activations no value holds by themselves goes by its weights.
    """
    moments: Scores = {}
    for name, rows in _activations(model, coupling, probe):
        batch = np.stack([np.full(len(rows), float(rows.shape[1])), rows.sum(1), (rows**2).sum(1)])
        moments[name] = moments[name] + batch if name in moments else batch
    found = {name: squares / count - (total / count) ** 2 for name, (count, total, squares) in moments.items()}
    return {**by_magnitude(model, coupling), **found}


def activations(model: Model, coupling: Coupling, probe: Probe) -> Scores:
    """Return each unit's activations over rows and positions, by group: (units, entries).

    What has more than some thousand entries for each unit is thinned out evenly.
    """
    parts: dict[str, list[NDArray[np.float64]]] = {}
    batches = -(-probe.rows // probe.batch_size)
    for name, rows in _activations(model, coupling, probe):
        parts.setdefault(name, []).append(rows[:, :: max(1, rows.shape[1] * batches // _ENTRIES)])
    return {name: np.concatenate(found, axis=1) for name, found in parts.items()}


def _activations(model: Model, coupling: Coupling, probe: Probe) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield each group's activations in each batch, (units, entries); several positions of a unit are averaged."""
    places = coupling.activations()
    capture = tuple({value for value, _ in places.values()})
    for executor, batch in _batches(model, probe, trainable=False):
        with torch.no_grad():
            values = executor(batch.inputs, capture)
        for name, (value, axis) in places.items():
            labels = coupling.walked.labels[value][axis]
            if labels is not None:
                rows = to_numpy(values[value].movedim(axis, 0).reshape(len(labels), -1)).astype(np.float64)
                units, count = coupling.units(labels)[:, 1], coupling.by_name[name].units
                total = np.zeros((count, rows.shape[1]))
                np.add.at(total, units, rows)
                yield name, total / np.bincount(units, minlength=count)[:, None]


def by_gradient(model: Model, coupling: Coupling, probe: Probe, measure: Measure) -> Scores:
    """Return what the loss's gradient says of each unit, averaged over batches.

    `gradient_norm`: the squared norm of the gradient of its weights. `taylor`: the squared first-order change of the
    loss if its weights were zero, (Σ w·∂L/∂w)² (Molchanov et al., 2019). Without labels, L is a random projection of
    the outputs, which gives each unit's share in the outputs' Jacobian.
    """
    scores = {group.name: np.zeros(group.units) for group in coupling.groups}
    generator = torch.Generator().manual_seed(probe.seed)
    batches = 0
    for executor, batch in _batches(model, probe, trainable=True):
        used: dict[str, Tensor] = {}
        hooks = [module.register_forward_hook(partial(_keep, used, name)) for name, module in executor.trained.items()]
        loss = _loss(executor, batch, probe.dataset, generator)
        gradients = torch.autograd.grad(loss, list(used.values()), allow_unused=True)
        for hook in hooks:
            hook.remove()
        known = {name: (used[name], found) for name, found in zip(used, gradients, strict=True) if found is not None}
        for group in coupling.groups:
            scores[group.name] += _of_group(group, known, measure)
        batches += 1
    return {name: found / max(batches, 1) for name, found in scores.items()}


def _batches(model: Model, probe: Probe, *, trainable: bool) -> Iterator[tuple[Executor, Batch]]:
    """Yield the executor with each batch, batch normalization as the model is served."""
    device = resolve_device(probe.device)
    rows = probe.dataset.train.take(slice(0, probe.rows))
    with repeatable(device, probe.threads, probe.seed):
        executor = Executor(model, device=device, trainable=trainable).eval()
        for batch in in_order(rows, probe.batch_size, sequence_inputs(model)):
            yield executor, batch


def _keep(used: dict[str, Tensor], name: str, _module: object, _inputs: object, weight: Tensor) -> None:
    used[name] = weight


def _loss(executor: Executor, batch: Batch, dataset: Dataset, generator: torch.Generator) -> Tensor:
    heads = heads_for(executor.model, dataset.task)
    objective = Objective(dataset.task, heads, 1.0, 1.0)
    values = executor(batch.inputs, objective.capture)
    if dataset.labelled and batch.labels is not None and dataset.task != "match":
        return objective.loss(values, batch.labels.to(executor.device), None)
    parts = []
    for head in heads:
        logits = values[head.logits]
        signs = torch.randint(0, 2, logits.shape, generator=generator).to(logits) * 2 - 1
        parts.append((logits * signs).sum() / len(logits))
    return torch.stack(parts).sum()


def _of_group(group: Group, known: Mapping[str, tuple[Tensor, Tensor]], measure: Measure) -> NDArray[np.float64]:
    total = np.zeros(group.units)
    for member in group.members:
        if member.tensor not in known:  # running statistics are not trained
            continue
        weight, gradient = known[member.tensor]
        product = gradient * gradient if measure == "gradient_norm" else gradient * weight
        total += _summed(to_numpy(product.detach()).astype(np.float64), group, member.axis, member.units)
    return total if measure == "gradient_norm" else total**2


def _summed(values: NDArray[np.float64], group: Group, axis: int, units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Add up all but one axis, then the positions of each unit. Returns (units,)."""
    by_position = values.sum(axis=tuple(at for at in range(values.ndim) if at != axis))
    inside = units >= 0
    return np.bincount(units[inside], by_position[inside], group.units).astype(np.float64)


def relative(scores: Scores) -> Scores:
    """Return scores as multiples of their group's mean, so that groups of different width and scale compare."""
    return {name: found / max(float(found.mean()), _TINY) for name, found in scores.items()}
