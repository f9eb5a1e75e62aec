"""AdamW over an executor's weights, and the learning rate over time."""

import math

import torch
from torch.optim import AdamW

from workers.compute.autograd.executor import Executor

_MATRIX = 2


def optimizer_of(executor: Executor, learning_rate: float, weight_decay: float) -> AdamW:
    """Return AdamW (Loshchilov & Hutter, 2019); biases and normalization weights do not decay."""
    decays: list[torch.nn.Parameter] = []
    stays: list[torch.nn.Parameter] = []
    for name, weight in executor.trained.items():
        rank = executor.model.read(name).ndim
        (decays if rank >= _MATRIX else stays).extend(weight.parameters())
    groups = [{"params": decays, "weight_decay": weight_decay}, {"params": stays, "weight_decay": 0.0}]
    return AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=True)


def rate_at(step: int, total: int, warmup: float) -> float:
    """Return the share of the learning rate at a step: a linear rise over `warmup`, then half a cosine to 0."""
    rise = max(1, round(total * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))
