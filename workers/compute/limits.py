"""A child's own memory limit, lowered once it knows how much it has to open. Knows no format."""

import resource
from pathlib import Path

ROOM_BYTES = 1 << 30  # besides what an upload accounts for: libraries, and the runtime's own needs
_PAGES = 0  # /proc/self/statm: size resident shared …


def hold(upload_bytes: int, factor: int) -> None:
    """Let this process map `factor` times an upload more than now, and 1 GiB; never more than it was allowed.

    A small file that stands for a large one then ends at once, instead of taking the memory of others.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _mapped_bytes() + ROOM_BYTES + factor * upload_bytes
    if soft == resource.RLIM_INFINITY or wanted < soft:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def _mapped_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[_PAGES]) * resource.getpagesize()
