"""ONNX's own node cases through our executor and through the peers that turn ONNX into PyTorch modules.

    python -m bench.node_cases [--peers .cache/peers] [--vision-flags "--index-url ..."]

Counts the dense numeric cases of the standard domain (see tests/conformance/node_cases.py) that come out right, and
times them. Each peer gets a virtual environment of its own under `--peers`; it sees this interpreter's torch, numpy
and onnx and adds only itself, torchvision and pillow, without their dependencies, so that no CUDA is fetched. Where
torch is a CPU build, only torchvision's CPU build has operators that load: `--vision-flags` tells pip where it is. A
peer that cannot be installed is reported as such.

Of the 1,616 cases of onnx 1.23.2 that PyTorch 2.13 takes as they are: modelpress 1,597, onnx2fx 0.0.1 1,360, onnx2torch
1.5.15 320. Nobody can pass ten of them, which draw random numbers.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from bench._node_case_runner import MISSING
from tests.conformance import node_cases

PEERS = {"onnx2fx": "0.0.1", "onnx2torch": "1.5.15"}
# torchvision's version goes with torch's: torch 2.n has torchvision 0.(n + 15).
OFFSET = 15
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """Each case's verdict by index, "1" or the kind of failure, and the seconds they took together."""

    verdicts: Mapping[int, str]
    seconds: float


def vision_version() -> str:
    """Return the torchvision release that fits the installed torch, as a pip pattern."""
    major, minor = torch.__version__.split(".")[:2]
    return f"torchvision==0.{int(minor) + OFFSET}.*" if major == "2" else "torchvision"


def install(folder: Path, peer: str, vision_flags: list[str]) -> Path | None:
    """Make the peer's environment unless it is there; return its interpreter, None when it cannot be had."""
    python, ready = folder / peer / "bin" / "python", folder / peer / ".ready"
    if ready.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", str(folder / peer)], check=True)
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    (Path(site.strip()) / "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    commands = [[*pip, "pillow", f"{peer}=={PEERS[peer]}"], [*pip, *vision_flags, vision_version()]]
    if not all(run(command) for command in commands):
        return None
    ready.touch()
    return python


def run(command: list[str]) -> bool:
    """Run a command quietly; whether it worked."""
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def outcome(python: Path, name: str, count: int) -> Outcome:
    """Run all cases; a case that ends the interpreter has failed, and the next one starts a new one."""
    verdicts: dict[int, str] = {}
    begin = time.perf_counter()
    while len(verdicts) < count:
        command = [str(python), "-m", "bench._node_case_runner", name, str(len(verdicts))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # noqa: TID251 - a child's environment, not our settings
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith("case ")]
        verdicts |= {int(index): rest[-1] for _, index, *rest in lines}
        if len(verdicts) < count:
            if not lines and not verdicts:
                raise SystemExit(f"{name} does not start:\n{done.stderr}")
            verdicts[len(verdicts)] = "Ended"
    return Outcome(verdicts, time.perf_counter() - begin)


def report(name: str, found: Outcome, native: list[bool]) -> None:
    """Print one converter's line, and what stands behind its failures."""
    right = [verdict == "1" for _, verdict in sorted(found.verdicts.items())]
    of_native = sum(one and is_native for one, is_native in zip(right, native, strict=True))
    print(f"{name:20} {of_native:5} of {sum(native)}   {sum(right):5} of {len(right)}   {found.seconds:6.1f} s")
    failures = Counter(verdict for verdict in found.verdicts.values() if verdict != "1")
    print(f"{'':20} failures: {', '.join(f'{count} {kind}' for kind, count in failures.most_common(6))}")


def main() -> None:
    """Run everybody."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=ROOT / ".cache" / "peers")
    parser.add_argument("--vision-flags", default="", help="extra arguments of pip for torchvision")
    chosen = parser.parse_args()
    cases = node_cases.dense_cases()
    native = [node_cases.is_native(case) for case in cases]
    print(f"onnx {onnx.__version__}, torch {torch.__version__}, numpy {importlib.metadata.version('numpy')}")
    print(f"{'':20} cases that torch takes as they are   all dense cases   time")
    report("modelpress", outcome(Path(sys.executable), "modelpress", len(cases)), native)
    for peer, version in PEERS.items():
        python = install(chosen.peers, peer, chosen.vision_flags.split())
        if python is None:
            print(f"{peer} {version} cannot be had here: pip did not find it, or torchvision")
            continue
        report(f"{peer} {version}", outcome(python, peer, len(cases)), native)
    print(f"{MISSING} counts the cases that failed only because torchvision's compiled operators are not here.")


if __name__ == "__main__":
    main()
