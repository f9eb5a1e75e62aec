"""Mixtures of rows to learn from where rows are few (mixup: Zhang et al., 2018, arXiv 1710.09412). Knows no loop.

A teacher is asked about the mixtures themselves (Beyer et al., 2022, arXiv 2106.05237): what it answers between the
rows is what a student that only ever saw the rows does not learn.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from app.errors import TechniqueNotApplicable
from workers.compute.autograd.batching import Batch, Blend
from workers.compute.graph.model import FLOATS, Model


def check_mixable(model: Model) -> None:
    """Raise TechniqueNotApplicable for inputs that have no values in between: token ids, masks."""
    whole = [f"{value.name} ({value.dtype})" for value in model.graph.inputs if value.dtype not in FLOATS]
    if whole:
        msg = f"mixup needs floating-point inputs, and {', '.join(whole)} cannot be mixed; set mixup to 0"
        raise TechniqueNotApplicable(msg)


def mixed(batch: Batch, strength: float, seed: Sequence[int]) -> Batch:
    """Return a batch with each row mixed with another one of it, in one share drawn from Beta(strength, strength).

    The same seed draws the same, whatever was drawn before: a training that goes on need not know what came before.
    """
    random = np.random.default_rng(seed)
    share = float(random.beta(strength, strength))
    partners = torch.from_numpy(random.permutation(len(batch.rows)))
    inputs = {name: torch.lerp(rows[partners], rows, share) for name, rows in batch.inputs.items()}
    labels = None if batch.labels is None else batch.labels[partners]
    return replace(batch, inputs=inputs, blend=Blend(labels, share))
