"""Split matrices into two of low rank (Denton et al., 2014), weighed by activations (ASVD, Yuan et al., 2023).

Embedding tables too, whose rows are then looked up short and multiplied to their width (ALBERT, Lan et al., 2020).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from app.contracts.steps.factorize import Factorize, Kind
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.prediction import predict
from workers.compute.graph.model import Model
from workers.compute.graph.splitting import Site, sites, split
from workers.compute.techniques.base import Context, Outcome, retrain
from workers.compute.wording import shown

# Root mean squares settle on few rows.
_ROWS, _BATCH = 256, 32
# An input that is hardly ever active still gets this share of the strongest one's weight: other data may use it.
_LEAST = 1e-3
_NAMED = 5  # tensors in a note

Float = NDArray[np.floating]


def apply(model: Model, spec: Factorize, context: Context) -> Outcome:
    """Return a copy in which each matrix that is larger than two of its rank is those two, retrained.

    Raises TechniqueNotApplicable when earlier steps promised the values of all of them.
    """
    thin = model.clone()
    found = [site for site in sites(thin) if _kind(site) in spec.kinds and thin.read(site.name).size >= spec.min_size]
    free = [site for site in found if site.name not in thin.constraints]
    if found and not free:
        raise TechniqueNotApplicable(_refusal(len(found)))
    weights = _importances(model, free, context) if spec.data_aware and free else {}
    ranks: dict[str, int] = {}
    for done, site in enumerate(free):
        context.progress(0.5 * done / len(free), None)
        matrix = site.matrix(thin.read_floats(site.name))
        first, second = factors(matrix, weights.get(site.name), spec)
        if first.size + second.size < matrix.size:
            ranks[site.name] = first.shape[1]
            split(thin, site, first, second)
    notes = _notes(ranks, [site.name for site in free], len(found) - len(free)) if found else (_nothing(spec),)
    return Outcome(thin, notes, retrain(thin, spec, context) if ranks else ())


def _kind(site: Site) -> Kind:
    return "embeddings" if site.is_table else "matrices"


def factors(matrix: Float, importance: Float | None, spec: Factorize) -> tuple[Float, Float]:
    """Return (inputs, rank) and (rank, outputs) whose product is near `matrix`.

    The error of each input counts with its `importance`, (inputs,).
    """
    scale = np.ones(len(matrix)) if importance is None else importance.astype(np.float64)
    left, values, right = np.linalg.svd(matrix * scale[:, None], full_matrices=False)
    rank = _rank(values, spec)
    root = np.sqrt(values[:rank])
    return left[:, :rank] * root / scale[:, None], root[:, None] * right[:rank]


def _rank(values: Float, spec: Factorize) -> int:
    if spec.rank is not None:
        return max(1, int(spec.rank * values.size))
    kept = np.cumsum(np.square(values))
    return int(np.searchsorted(kept, spec.energy * kept[-1])) + 1


def _importances(model: Model, found: Sequence[Site], context: Context) -> Mapping[str, Float]:
    """Return the root mean square of every input of every matrix over some training rows."""
    if context.dataset is None:
        return {}
    executor = Executor(model, device=context.device, trainable=False)
    inner = {str(site.x.name): site.axis for site in found if site.x.producer() is not None}
    squares: dict[str, list[Float]] = {}
    sizes = {site.name: len(model.read(site.name)) for site in found}
    for batch in context.dataset.train.take(slice(0, _ROWS)).batches(_BATCH):
        seen = {**batch.inputs, **predict(executor, batch, _BATCH, threads=context.threads, capture=tuple(inner))}
        for site in found:
            if (values := seen.get(str(site.x.name))) is not None:
                squares.setdefault(site.name, []).append(_mean_square(values, site.axis, sizes[site.name]))
    return {name: _floored(np.sqrt(np.mean(means, axis=0))) for name, means in squares.items()}


def _mean_square(values: NDArray[np.generic], axis: int | None, size: int) -> Float:
    """Return the mean square of each input; of a table, how often each row is looked up."""
    if axis is None:
        return np.bincount(values.reshape(-1).astype(np.int64) % size, minlength=size).astype(np.float64)
    wide = np.moveaxis(values.astype(np.float64), axis, -1)
    means: Float = np.square(wide).reshape(-1, wide.shape[-1]).mean(axis=0)
    return means


def _floored(strengths: Float) -> Float:
    largest = float(strengths.max())
    return np.maximum(strengths, _LEAST * largest) if largest > 0 else np.ones_like(strengths)


def _refusal(promised: int) -> str:
    return (
        f"earlier steps promised the values of all {promised} matrices that could be split, and two factors would not "
        "keep them; put factorize first"
    )


def _nothing(spec: Factorize) -> str:
    return f"no MatMul, Gemm or 1×1 Conv has a matrix of its own with {spec.min_size} weights or more; lower min_size"


def _notes(ranks: Mapping[str, int], tried: Sequence[str], promised: int) -> tuple[str, ...]:
    notes = []
    if ranks:
        notes.append(f"{len(ranks)} matrices were split, into ranks of {min(ranks.values())} to {max(ranks.values())}")
    if whole := [shown(name) for name in tried if name not in ranks]:
        more = f" and {len(whole) - _NAMED} more" if len(whole) > _NAMED else ""
        named = ", ".join(whole[:_NAMED])
        notes.append(f"left whole, since two factors would be larger at this rank or energy: {named}{more}")
    if promised:
        notes.append(f"{promised} matrices are left whole: an earlier step promised their values")
    return tuple(notes)
