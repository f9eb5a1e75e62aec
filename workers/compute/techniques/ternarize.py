"""Let each weight be -a, 0 or a, one a per output channel, and train the weights behind them (Li & Liu, 2016)."""

from collections.abc import Mapping

import numpy as np

from app.contracts.steps.ternarize import Ternarize
from app.errors import TechniqueNotApplicable
from workers.compute.graph.constraints import Signs
from workers.compute.graph.model import Model
from workers.compute.graph.targets import targets
from workers.compute.signing import Growing, constrain, error_db, finish, promises
from workers.compute.techniques.base import Context, Outcome, planned_epochs, retrain


def apply(model: Model, spec: Ternarize, context: Context) -> Outcome:
    """Return a ternary, retrained copy. Raises TechniqueNotApplicable when no tensor is large enough."""
    ternary = model.clone()
    given = promises(ternary, targets(ternary, spec), spec.threshold, learned=spec.scale == "learned")
    if not given:
        msg = f"no matrix, kernel or table that may be ternary has {spec.min_size} weights or more; lower min_size"
        raise TechniqueNotApplicable(msg)
    if spec.gradual and planned_epochs(spec, context) > 0:
        curve = retrain(ternary, spec, context, Growing(given))
        finish(ternary, given)
    else:
        constrain(ternary, given)
        curve = retrain(ternary, spec, context)
    return Outcome(ternary, _notes(ternary, given), curve)


def _notes(model: Model, given: Mapping[str, Signs]) -> tuple[str, ...]:
    sizes = [model.read(name).size for name in given]
    zeros = sum(size - np.count_nonzero(model.read(name)) for size, name in zip(sizes, given, strict=True))
    noun = "tensor is" if len(given) == 1 else "tensors are"
    kept = f"before any retraining the weights kept {error_db(given):.1f} dB of signal over noise"
    return (f"{len(given)} {noun} ternary, {zeros / sum(sizes):.1%} of their weights zero; {kept}",)
