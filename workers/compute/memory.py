"""Resident memory and load time of a model file."""

import ctypes
import gc
import time
from pathlib import Path

import numpy as np

from workers.compute.runtime import SessionOptions, open_session

_PAGE_FIELD = 1  # /proc/self/statm: size resident shared …
LOADS = 3


def loading(path: Path, options: SessionOptions) -> tuple[float, int | None]:
    """Return the median load time in ms of three loads, and the resident bytes that the first one added.

    Memory that earlier work has freed is handed back first, else the load would reuse it unseen. None where the
    system does not tell.
    """
    times = []
    added: int | None = None
    for turn in range(LOADS):
        before = _resident_bytes()
        start = time.perf_counter_ns()
        session = open_session(path, options)
        times.append((time.perf_counter_ns() - start) / 1e6)
        if turn == 0:
            after = _resident_bytes()
            added = None if before is None or after is None else max(0, after - before)
        del session
    return float(np.median(times)), added


def _resident_bytes() -> int | None:
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[_PAGE_FIELD])
    except (OSError, AttributeError):  # another system, or a C library without malloc_trim
        return None
    return pages * 4096
