"""Let weights, or runs of them, share a few values, and train those values (Han et al., 2016; Gong et al., 2014)."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.contracts.steps.share_weights import ShareWeights
from app.errors import TechniqueNotApplicable
from workers.compute.graph.constraints import Codebook, is_settled, zeros_of
from workers.compute.graph.model import Model
from workers.compute.graph.readers import matrices, output_axis
from workers.compute.sharing import Layout, share
from workers.compute.techniques.base import Context, Outcome, retrain


def apply(model: Model, spec: ShareWeights, context: Context) -> Outcome:
    """Return a copy in which the codebooks of each matrix, kernel and table have `clusters` entries, those trained.

    Raises TechniqueNotApplicable when no tensor is large enough.
    """
    shared = model.clone()
    large = {name: reader for name, reader in matrices(shared).items() if shared.read(name).size >= spec.min_size}
    names = [name for name in large if not is_settled(shared.constraints.get(name))]
    if not large:
        msg = f"no matrix, kernel or table has {spec.min_size} weights or more; lower min_size"
        raise TechniqueNotApplicable(msg)
    for name in names:
        values = shared.read_floats(name)
        zeros = _zeros(shared, name, values, spec.clusters)
        rows = spec.block if spec.scope == "block" else None
        layout = Layout(output_axis(large[name]) or 0, rows, spec.dimension)
        codebook, quantized = share(values, zeros, layout, spec, context.seed)
        shared.constraints[name] = replace(codebook, latent=values) if spec.assignment == "learned" else codebook
        shared.write(name, quantized.astype(shared.read(name).dtype))
    notes = [f"{len(names)} tensors share {_entries(spec)} each at most"] if names else []
    if left := len(large) - len(names):
        notes.append(f"{left} tensors keep the fewer values that an earlier step gave each of their channels or blocks")
    curve = retrain(shared, spec, context) if names else ()
    for name in names:
        if isinstance(promise := shared.constraints[name], Codebook):
            shared.constraints[name] = replace(promise, latent=None)  # from here on it is fixed
    return Outcome(shared, tuple(notes), curve)


def _entries(spec: ShareWeights) -> str:
    what = "values" if spec.dimension == 1 else f"sub-vectors of {spec.dimension}"
    where = f" in every {spec.block} output channels" if spec.scope == "block" else ""
    return f"{spec.clusters} {what}{where}"


def _zeros(model: Model, name: str, values: NDArray[np.floating], clusters: int) -> NDArray[np.bool_]:
    """Return the promised zeros; zeros of a model pruned elsewhere count where they would fill a cluster."""
    zeros = zeros_of(model.constraints.get(name), values)
    exact: NDArray[np.bool_] = values == 0
    return exact if not zeros.any() and exact.sum() * clusters > values.size else zeros
