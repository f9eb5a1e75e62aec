"""What each weight tensor has to do with the result: its share of the time, and how far it is from the original's."""

import numpy as np

from app.contracts.report import TensorReport
from workers.compute.encodings.packer import Packed
from workers.compute.graph.distances import Float, cosine, snr_db
from workers.compute.graph.model import FLOATS, Model
from workers.compute.profiling import Profile
from workers.compute.tracing import shares

_MOST_SNR_DB = 200.0  # beyond the precision of float64: JSON has no infinity for tensors that did not change


def attributed(packed: Packed, source: Model, final: Model, profile: Profile) -> list[TensorReport]:
    """Return the packed file's tensors with all that can be said of them."""
    sizes = {tensor.name: tensor.parameters for tensor in packed.tensors}
    share = shares(packed.model, sizes, profile)
    return [
        compared(tensor, source, final).model_copy(update={"latency_share": share.get(tensor.name)})
        for tensor in packed.tensors
    ]


def compared(tensor: TensorReport, source: Model, final: Model) -> TensorReport:
    """Add how like the same tensor of `source` it is, where that has the same name, shape and kind of number."""
    if (pair := pair_of(tensor.name, source, final)) is None:
        return tensor
    level = float(np.clip(snr_db([pair]), -_MOST_SNR_DB, _MOST_SNR_DB)) if pair[0].any() else None
    return tensor.model_copy(update={"snr_db": level, "cosine": cosine(*pair)})


def pair_of(name: str, source: Model, final: Model) -> tuple[Float, Float] | None:
    """Return a floating tensor's values in both models, or None where it is not the same tensor in both."""
    places = [model.graph.initializers.get(name) for model in (source, final)]
    if any(value is None or value.dtype not in FLOATS for value in places):
        return None
    old, new = source.read_floats(name), final.read_floats(name)
    return (old, new) if old.shape == new.shape else None
