"""Let the weights of a tensor share a few values, and train those values (Han et al., 2016)."""

import numpy as np
from numpy.typing import NDArray

from app.contracts.steps.share_weights import ShareWeights
from app.errors import TechniqueNotApplicable
from workers.compute.graph.clustering import assign, cluster
from workers.compute.graph.constraints import Codebook, is_settled, zeros_of
from workers.compute.graph.model import Model
from workers.compute.graph.readers import matrices
from workers.compute.techniques.base import Context, Outcome, retrain


def apply(model: Model, spec: ShareWeights, context: Context) -> Outcome:
    """Return a copy in which each matrix, kernel and table has `clusters` values, those trained.

    Raises TechniqueNotApplicable when no tensor is large enough.
    """
    shared = model.clone()
    large = [name for name in matrices(shared) if shared.read(name).size >= spec.min_size]
    names = [name for name in large if not is_settled(shared.constraints.get(name))]
    if not large:
        msg = f"no matrix, kernel or table has {spec.min_size} weights or more; lower min_size"
        raise TechniqueNotApplicable(msg)
    for name in names:
        values = shared.read_floats(name)
        codebook, quantized = share(values, _zeros(shared, name, values, spec.clusters), spec, context.seed)
        shared.constraints[name] = codebook
        shared.write(name, quantized.astype(shared.read(name).dtype))
    notes = [f"{len(names)} tensors share {spec.clusters} values each at most"] if names else []
    if left := len(large) - len(names):
        notes.append(f"{left} tensors keep the fewer values that an earlier step gave each of their channels or blocks")
    return Outcome(shared, tuple(notes), retrain(shared, spec, context) if names else ())


def share(
    values: NDArray[np.floating], zeros: NDArray[np.bool_], spec: ShareWeights, seed: int
) -> tuple[Codebook, NDArray[np.floating]]:
    """Return the codebook and the values that it makes; where `zeros` is True is a cluster of its own."""
    rest = values[~zeros]
    if not rest.size:
        return Codebook(np.zeros(values.shape, np.uint8), 1, 0), np.zeros_like(values)
    pruned = bool(zeros.any())
    centroids = cluster(rest, max(1, spec.clusters - pruned), spec.init, seed)
    indices = assign(values, centroids).astype(np.uint8)
    zero = None
    if pruned:
        zero = centroids.size
        centroids = np.append(centroids, values.dtype.type(0))
        indices[zeros] = zero
    return Codebook(indices, int(centroids.size), zero), centroids[indices]


def _zeros(model: Model, name: str, values: NDArray[np.floating], clusters: int) -> NDArray[np.bool_]:
    """Return the promised zeros; zeros of a model pruned elsewhere count where they would fill a cluster."""
    zeros = zeros_of(model.constraints.get(name), values)
    exact: NDArray[np.bool_] = values == 0
    return exact if not zeros.any() and exact.sum() * clusters > values.size else zeros
