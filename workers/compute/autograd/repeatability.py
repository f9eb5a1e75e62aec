"""Makes every sum come out in the same order."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from workers.compute.autograd.prediction import threads_set


@contextmanager
def repeatable(device: str, threads: int, seed: int) -> Iterator[None]:
    """Let PyTorch compute the same bits for the same seed on the CPU; put the process's settings back afterwards."""
    memory: Any = torch.utils.deterministic  # its one setting is made at run time, unknown to type checkers
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    memory.fill_uninitialized_memory = False  # costs time and only hides reads of unset memory
    torch.use_deterministic_algorithms(device == "cpu")
    torch.manual_seed(seed)
    try:
        with threads_set(threads):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]
