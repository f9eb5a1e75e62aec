"""What keeps a worker from doing well on this machine: `python -m workers.doctor` prints findings as JSON.

Tries the sandbox with a child that does nothing; opens no model, no store and none of the large libraries.
"""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from app.contracts.operations import Finding
from app.doctor.words import gib, ok, problem, warning
from app.settings import Settings
from workers import memory, sandbox
from workers.compute.environment import INT8_FLAGS, environment

_GPU = Path("/dev/nvidiactl")
_EXTRA = "worker"
_FLOOR = re.compile(r"([A-Za-z0-9_.-]+)(?:<[0-9.]+,)?>=([0-9.]+)")
_NAMED = ("torch", "onnx", "onnxruntime")
_SCRATCH_TIMES = 8  # of the largest model's bytes, for one job: docs/operations.md, big models
_LAYERS = ("landlock", "seccomp")
_CURES = {
    "landlock": "run on Linux 5.13 or newer with Landlock among the kernel's security modules (lsm=landlock,…)",
    "seccomp": "run on x86_64 or aarch64, under a container profile that allows seccomp filters",
}


def look(settings: Settings) -> Iterator[Finding]:
    """Yield everything that was looked at."""
    yield _sandbox(settings)
    yield _memory(settings)
    yield _scratch(settings)
    yield _processor()
    yield _gpu(settings)
    yield from _versions()


def _sandbox(settings: Settings) -> Finding:
    with tempfile.TemporaryDirectory(prefix="modelpress-") as folder:
        level = sandbox.reached_here(Path(folder))
        # Alone, each of them makes the level partial where it holds.
        missing = [layer for layer in _LAYERS if sandbox.reached_here(Path(folder), (layer,)) == "none"]
    said = f"children are confined at level {level}" + (f", without {' and '.join(missing)}" if missing else "")
    if not missing:
        return ok("sandbox", said)
    cure = "; ".join(_CURES[layer] for layer in missing)
    if sandbox.LEVELS.index(level) < sandbox.LEVELS.index(settings.sandbox_floor):
        said += f", and {settings.sandbox_floor} is required: no worker starts"
        return problem("sandbox", said, f"{cure}; or set MODELPRESS_REQUIRE_SANDBOX={level}")
    return warning("sandbox", said, cure)


def _memory(settings: Settings) -> Finding:
    there, allowed = memory.limit_bytes(), settings.child_memory_bytes
    said = f"{gib(there)} of memory here, {gib(allowed)} for each child"
    if allowed <= there:
        return ok("memory", said)
    cure = f"set MODELPRESS_CHILD_MEMORY_BYTES below {there}, or give this machine or its control group more"
    return warning("memory", f"{said}: the kernel kills a large job before its limit refuses it", cure)


def _scratch(settings: Settings) -> Finding:
    # As far up as there is something: a worker makes its scratch folder itself.
    wanted = settings.scratch.absolute()
    folder = next(path for path in (wanted, *wanted.parents) if path.is_dir())
    free, needed = shutil.disk_usage(folder).free, _SCRATCH_TIMES * settings.max_model_bytes
    said = f"{gib(free)} free for scratch at {settings.scratch}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return problem("scratch", f"user {os.getuid()} may not write {folder}", "set MODELPRESS_SCRATCH_DIR")
    if free >= needed:
        return ok("scratch", said)
    cure = f"make room, set MODELPRESS_SCRATCH_DIR to a larger disk, or lower MODELPRESS_MAX_MODEL_BYTES to {free // 8}"
    return warning("scratch", f"{said}; a job on a model of the largest size may need {gib(needed)}", cure)


def _processor() -> Finding:
    here = environment(1, "cpu")
    flags = set(here.cpu_flags)
    known = f"{here.cpu}: {' '.join(here.cpu_flags) or 'no flags known'}"
    if flags & INT8_FLAGS:
        return ok("processor", f"{known}; int8 runs faster than float here")
    cure = "benchmark where models will run: processors with VNNI, AMX or i8mm multiply int8 several times faster"
    return warning("processor", f"{known}; int8 makes files smaller here, and hardly faster", cure)


def _gpu(settings: Settings) -> Finding:
    if _GPU.exists():
        return ok("gpu", "an NVIDIA driver is here; jobs that ask for cuda need a worker on the queue gpu")
    if settings.device == "cuda":
        cure = "set MODELPRESS_DEVICE to auto, or give this machine or container an NVIDIA device"
        return problem("gpu", f"MODELPRESS_DEVICE is cuda, and {_GPU} is not here", cure)
    return ok("gpu", "none here: training runs on the processor")


def _versions() -> Iterator[Finding]:
    told = []
    for package, floor in _floors():
        version = _version(package)
        told += [f"{package} {version}"] if package in _NAMED else []
        if version is None:
            yield problem("versions", f"{package} is not installed", "pip install 'modelpress[worker]'")
        elif _number(version) < _number(floor):
            said = f"{package} {version} is below {floor}, the oldest that is supported"
            yield problem("versions", said, f"pip install '{package}>={floor}'")
    yield ok("versions", ", ".join(told) or "no floors known: modelpress is not installed as a package")


def _floors() -> Iterator[tuple[str, str]]:
    """Yield what a worker must have and from which version on, by our own package."""
    for line in metadata.requires("modelpress") or ():
        requirement, _, marker = line.partition(";")
        found = _FLOOR.fullmatch(requirement.strip())
        if found is not None and f'extra == "{_EXTRA}"' in marker:
            yield found[1], found[2]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _number(version: str) -> tuple[int, ...]:
    """Return the numbers of a release, enough to tell it from a floor: `2.13.0+cpu` is (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", version.partition("+")[0])[:3])


def main(_arguments: Sequence[str] = ()) -> int:
    """Print every finding as one JSON array."""
    sys.stdout.write(json.dumps([one.model_dump() for one in look(Settings())]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
