"""Let each weight be -a or a, a its output channel's mean magnitude, and train the weights behind (Rastegari, 2016).

Ternary weights first, binary ones from there, as BinaryBERT does (Bai et al., 2021).
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from app.contracts.steps.binarize import Binarize
from app.errors import TechniqueNotApplicable
from workers.compute.graph.constraints import Signs
from workers.compute.graph.model import Model
from workers.compute.graph.targets import targets
from workers.compute.rounds import joined, part
from workers.compute.signing import constrain, error_db, finish, promises
from workers.compute.techniques.base import Context, Outcome, planned_epochs, retrain

_THRESHOLD = 0.7  # of the ternary half (Li & Liu, 2016)


def apply(model: Model, spec: Binarize, context: Context) -> Outcome:
    """Return a binary, retrained copy. Raises TechniqueNotApplicable when no tensor is large enough."""
    binary = model.clone()
    given = promises(binary, targets(binary, spec), None, learned=False)
    if not given:
        msg = f"no matrix, kernel or table that may be binary has {spec.min_size} weights or more; lower min_size"
        raise TechniqueNotApplicable(msg)
    epochs = planned_epochs(spec, context)
    if not spec.two_step or not epochs:
        constrain(binary, given)
        return Outcome(binary, _notes(binary, given), retrain(binary, spec, context))
    constrain(binary, {name: replace(promise, threshold=_THRESHOLD) for name, promise in given.items()})
    half = spec.model_copy(update={"epochs": epochs / 2})
    first = retrain(binary, half, replace(context, progress=part(context.progress, 0, 2)))
    finish(binary, given)
    second = retrain(binary, half, replace(context, progress=part(context.progress, 1, 2)))
    return Outcome(binary, _notes(binary, given), joined(first, second))


def _notes(model: Model, given: Mapping[str, Signs]) -> tuple[str, ...]:
    noun = "tensor is" if len(given) == 1 else "tensors are"
    zeros = sum(model.read(name).size - np.count_nonzero(model.read(name)) for name in given)
    kept = f"before any retraining the weights kept {error_db(given):.1f} dB of signal over noise"
    notes = [f"{len(given)} {noun} binary; {kept}"]
    if zeros:
        notes.append(f"{zeros} weights stay the zeros that an earlier step made them, a third value")
    return tuple(notes)
