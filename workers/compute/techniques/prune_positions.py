"""Compute only the positions that an answer reads: what PoWER-BERT drops (Goyal et al., 2020), as far as it is free.

For the encoding of the first token, say, the last layer needs keys and values of all tokens, but one query.
"""

from app.contracts.steps.prune_positions import PrunePositions
from workers.compute.graph.costs import symbolic_macs
from workers.compute.graph.model import Model
from workers.compute.graph.narrowing import narrow
from workers.compute.techniques.base import Context, Outcome, shrunk


def apply(model: Model, _spec: PrunePositions, _context: Context) -> Outcome:
    """Return a copy that computes fewer positions, or one unchanged where each is read."""
    narrowed = model.clone()
    nodes = narrow(narrowed)
    before = symbolic_macs(model)
    if not nodes or (before is not None and symbolic_macs(narrowed) == before):
        why = "every position that a matrix product or convolution computes is read: nothing changed"
        return Outcome(model.clone(), (why,))
    return Outcome(narrowed, (f"{nodes} operators compute fewer positions; {shrunk(model, narrowed)}",))
