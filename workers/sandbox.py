"""Confines the compute child before it opens anything: `python -m workers.sandbox <json> -- <module> <arguments>`.

Sets limits, Landlock and seccomp on its own process, prints `{"sandbox": "full"}` (or partial, or none) as its first
line, and then becomes the module. Standard library only; knows no job.
"""

import ctypes
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import app
import workers
from workers import landlock, seccomp

Level = Literal["full", "partial", "none"]
LEVELS: tuple[Level, ...] = ("none", "partial", "full")

EXIT_UNCONFINED = 78  # EX_CONFIG of sysexits.h: this machine cannot give the level that the settings ask for
EXIT_ORPHAN = 75  # EX_TEMPFAIL: the supervisor was gone before the child began

_LAYERS = ("limits", "landlock", "seccomp")
_PR_SET_PDEATHSIG = 1
_MAX_OPEN_FILES = 1_024
_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/localtime",
    "/etc/ld.so.cache", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version",
    "/proc/sys/kernel", "/proc/sys/vm", "/proc/filesystems", "/sys/devices/system", "/sys/bus/pci/devices",
    "/sys/fs/cgroup", "/dev/urandom", "/dev/random",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero")
_GPU_SYSTEM, _GPU_DEVICES = ("/proc", "/sys", "/usr/local/cuda", "/usr/share/nvidia", "/etc/nvidia"), ("/dev",)


@dataclass(frozen=True)
class Confinement:
    """What one child may use. Sizes in bytes, 0 meaning no limit; `parent` is the supervisor's process id."""

    scratch: str
    parent: int
    memory_bytes: int = 0
    cpu_s: int = 0
    file_bytes: int = 0
    gpu: bool = False
    require: Level = "none"
    readable: tuple[str, ...] = ()  # besides the interpreter, its libraries and our own packages
    layers: tuple[str, ...] = _LAYERS

    def command(self, module: str, *arguments: str) -> list[str]:
        """Return the command line that runs `module` so confined; -P keeps the scratch folder off the import path."""
        return [sys.executable, "-P", "-m", "workers.sandbox", json.dumps(asdict(self)), "--", module, *arguments]


def reached_here(scratch: Path, layers: tuple[str, ...] = _LAYERS) -> Level:
    """Return the level that a child on this machine reaches with these layers, tried with one that does nothing."""
    confinement = Confinement(str(scratch), os.getpid(), layers=layers)
    nothing = confinement.command("keyword")  # of the standard library, without a main part
    root = str(Path(workers.__file__ or "").parent.parent)
    done = subprocess.run(nothing, env={"PYTHONPATH": root}, stdout=subprocess.PIPE, check=True)  # noqa: S603 - our own
    level: Level = json.loads(done.stdout.splitlines()[0])["sandbox"]
    return level


def confine(confinement: Confinement) -> Level:
    """Apply every layer to this process and return what holds: full, partial or none."""
    held = []
    if "limits" in confinement.layers:
        _limit(confinement)
        held.append("limits")
    if "landlock" in confinement.layers and _restrict(confinement):
        held.append("landlock")
    if "seccomp" in confinement.layers and seccomp.install():
        held.append("seccomp")
    if len(held) == len(_LAYERS):
        return "full"
    return "partial" if "landlock" in held or "seccomp" in held else "none"


def _limit(confinement: Confinement) -> None:
    # No RLIMIT_NPROC. The kernel counts every thread of the user on the whole machine against it, other children and
    # other containers of the same number included, so any value is too low for a busy machine or too high to hold a
    # fork bomb; and it does not bind root. Seccomp refuses fork, vfork and clone without CLONE_THREAD instead, which
    # leaves threads, and those are held by RLIMIT_AS, 8 MiB of stack each.
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _MAX_OPEN_FILES,
        resource.RLIMIT_CPU: confinement.cpu_s,
        resource.RLIMIT_FSIZE: confinement.file_bytes,
        # CUDA reserves far more addresses than memory, so a GPU child is held by its pod's memory limit instead.
        resource.RLIMIT_AS: 0 if confinement.gpu else confinement.memory_bytes,
    }
    for kind, wanted in limits.items():
        if wanted == 0 and kind != resource.RLIMIT_CORE:
            continue
        _soft, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))


def _restrict(confinement: Confinement) -> bool:
    ours = [Path(package.__file__ or "").parent for package in (app, workers)]
    root = ours[1].parent  # in a checkout it also holds the data folder, so only our packages in it are readable
    imports = [Path(entry) for entry in sys.path if entry and Path(entry).resolve() != root.resolve()]
    system = [Path(path) for path in (*_SYSTEM, *(_GPU_SYSTEM if confinement.gpu else ()), *confinement.readable)]
    prefixes = [Path(sys.prefix), Path(sys.base_prefix)]
    devices = [Path(path) for path in (*_DEVICES, *(_GPU_DEVICES if confinement.gpu else ()))]
    return landlock.restrict([*ours, *imports, *prefixes, *system], [Path(confinement.scratch)], devices)


def die_with(parent: int) -> None:
    """Have this process killed with its parent; exits with 75 when that is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(EXIT_ORPHAN)


def main(arguments: list[str]) -> None:
    """Confine this process and become the module; exits with 78 when the required level cannot be had."""
    confinement = Confinement(**json.loads(arguments[0]))
    module, *rest = arguments[arguments.index("--") + 1 :]
    die_with(confinement.parent)
    level = confine(confinement)
    os.write(1, json.dumps({"sandbox": level}).encode() + b"\n")
    if LEVELS.index(level) < LEVELS.index(confinement.require):
        sys.exit(EXIT_UNCONFINED)
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
