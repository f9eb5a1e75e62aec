"""A process that holds its own memory limit."""

import subprocess
import sys

HELD = """
import resource
from workers.compute import limits
limits.hold({upload}, 2)
try:
    bytearray({wanted})
except MemoryError:
    print("refused")
else:
    print("given")
print(resource.getrlimit(resource.RLIMIT_AS)[0])
"""


def held(upload: int, wanted: int, allowed: int = 8 << 30) -> tuple[str, int]:
    text = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({allowed}, {allowed}))"
    done = subprocess.run(
        [sys.executable, "-c", text + HELD.format(upload=upload, wanted=wanted)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, limit = done.stdout.split()
    return said, int(limit)


def test_a_small_upload_leaves_one_gibibyte() -> None:
    assert held(1000, 900 << 20)[0] == "given"
    assert held(1000, 1100 << 20)[0] == "refused"


def test_a_large_upload_leaves_more() -> None:
    assert held(1 << 30, 2 << 30)[0] == "given"


def test_the_limit_is_never_raised() -> None:
    assert held(1 << 40, 1000)[1] == 8 << 30
