"""Tells an out-of-memory kill from any other kill. Reads the control group's counters, versions 1 and 2."""

import os
import signal
from pathlib import Path

_EVENTS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NEAR = 0.9  # a child killed with SIGKILL above this share of the limit died of it


def kills() -> int:
    """Return how many processes of this control group the kernel has killed for memory; 0 where it does not count."""
    for path in _EVENTS:
        for line in _read(path).splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdecimal():
                return int(value)
    return 0


def limit_bytes() -> int:
    """Return the memory that this control group, or else the machine, has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    stated = [int(text) for text in (_read(path).strip() for path in _LIMITS) if text.isdecimal()]
    return min([machine, *stated])


def was_the_cause(code: int, resident_bytes: int, allowed_bytes: int, kills_before: int) -> bool:
    """Return whether a child that ended with `code` while it held `resident_bytes` was killed for memory."""
    if code != -signal.SIGKILL:
        return False
    return kills() > kills_before or resident_bytes > _NEAR * min(allowed_bytes, limit_bytes())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
