"""A model's outputs over many rows, without gradients."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from workers.compute.autograd.batching import in_order
from workers.compute.autograd.dtypes import to_numpy
from workers.compute.autograd.executor import Executor
from workers.compute.datasets.samples import Samples
from workers.compute.graph.model import Model


def resolve_device(device: str) -> str:
    """Return the device; "auto" is CUDA where there is one."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def threads_set(threads: int) -> Iterator[None]:
    """Compute with a fixed number of threads: sums split differently would differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def predict(
    model: Model | Executor,
    samples: Samples,
    batch_size: int = 64,
    device: str = "cpu",
    threads: int = 2,
    capture: Collection[str] = (),
) -> dict[str, NDArray[np.generic]]:
    """Return outputs, and the inner values in `capture`, for all rows, by name.

    An Executor keeps its own device. Raises ModelUnsupported, RuntimeRefused, DatasetMismatch as the executor does.
    """
    executor = model if isinstance(model, Executor) else Executor(model, device=resolve_device(device), trainable=False)
    was_training = executor.training
    executor.eval()
    parts: dict[str, list[NDArray[np.generic]]] = {}
    with threads_set(threads), torch.no_grad():
        for batch in in_order(samples, batch_size):
            for name, value in executor(batch.inputs, capture).items():
                parts.setdefault(name, []).append(to_numpy(value))
    executor.train(was_training)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
