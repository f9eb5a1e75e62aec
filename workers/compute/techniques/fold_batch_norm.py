"""Make batch normalization part of the weights before it, as served models have it (Jacob et al., 2018)."""

from app.contracts.steps.fold_batch_norm import FoldBatchNorm
from workers.compute.graph.batch_norm import fold, folds, sites
from workers.compute.graph.model import Model
from workers.compute.techniques.base import Context, Outcome


def apply(model: Model, _spec: FoldBatchNorm, _context: Context) -> Outcome:
    """Return a copy without the batch normalizations that can be folded."""
    folded = model.clone()
    found = list(sites(folded))
    able = [site for site in found if folds(folded, site)]
    fold(folded, able)
    notes = [f"{len(able)} batch normalizations are part of the weights before them now"]
    if left := len(found) - len(able):
        notes.append(f"{left} stay: a factor per channel would break what an earlier step promised of the weights")
    if not found:
        notes = ["no batch normalization follows a convolution or Gemm of its own: nothing changed"]
    return Outcome(folded, tuple(notes))
