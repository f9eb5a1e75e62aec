"""The MiniLM spam classifier through today's compression libraries, and through ours, measured by the same code.

    python -m bench.peers [onnxruntime olive ...] [--ours name=file ...]      about 15 minutes on 2 cores

Ours are by default what bench.goals and bench.text have left.

Each peer is a script of bench/peer/ with a virtual environment of its own under var/bench/peers/, made once from the
versions that the script names. A peer that cannot be installed, or whose call fails, stands in the table with the last
line of its error. Accuracy is counted by stock ONNX Runtime on the test mails; times are raced against the original's,
in turns, in this process.
"""

import argparse
import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

from bench._service import FOLDER, table, times, told, write
from bench._stock import mails_to_test, right, session
from bench.text import inputs
from workers.compute.datasets.samples import Samples
from workers.compute.environment import environment
from workers.compute.feeds import feeds_for
from workers.compute.signature import signature_of
from workers.compute.timing import Racer, Setting, race

_SCRIPTS, _ENVIRONMENTS = Path(__file__).with_name("peer"), FOLDER / "peers"
_BATCHES = (1, 8)
_RACE_S = 4.0
_ZSTD_LEVEL = 19
_PATIENCE_S = 900
_HEADS = (
    *("library", "recipe", "accuracy", "bytes", "zstd -19", "p50, batch 1", "faster", "p50, batch 8", "faster"),
    *("seconds", "peak RSS"),
)
_ABSENT = {
    "neural-compressor": "not run: 3.10 takes no ONNX models",
    "torch-pruning": "not run: it prunes PyTorch modules, and no script here makes one of the model",
}


@dataclass(frozen=True)
class Point:
    """A file to measure, or why there is none; what making it took, where it was made here."""

    library: str
    recipe: str
    file: Path | None = None
    fault: str = ""
    seconds: float | None = None
    peak_bytes: int | None = None


def main() -> None:
    """Let every peer compress the model and write the table."""
    peers = sorted(script.stem.removeprefix("run_") for script in _SCRIPTS.glob("run_*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(peers)}; all if none is named")
    parser.add_argument(
        "--ours", action="append", metavar="NAME=FILE", help="files of ours; else those of other benches"
    )
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(peers):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    folder = inputs("spam").resolve()
    points = [Point("original", "", folder / "teacher.onnx")]
    for peer in asked.names or peers:
        points += _compressed(peer, folder)
    points += [Point(name, "", fault=why) for name, why in _ABSENT.items() if not asked.names]
    for name, file in _ours(asked.ours):
        points.append(Point("modelpress", name, file))
    rows = [_row(point, folder) for point in points]
    found = environment(2, "cpu")
    where = f"{told(found)}. ONNX Runtime {found.versions['onnxruntime']} measures."
    write("peers", f"{where}\n\n{table(_HEADS, rows)}")


def _ours(named: Sequence[str] | None) -> Iterator[tuple[str, Path]]:
    """Yield names and files: what was named, else what bench.goals and bench.text have left."""
    if named is None:
        yield from (
            (file.stem, file) for kind in ("goal-text", "teacher-spam") for file in FOLDER.glob(f"{kind}-*.onnx")
        )
    for each in named or ():
        name, _, file = each.partition("=")
        yield name, Path(file)


def _compressed(peer: str, folder: Path) -> Iterator[Point]:
    """Install a peer unless it is there, and run each of its recipes."""
    script = _SCRIPTS / f"run_{peer}.py"
    requirements, recipes = (_constant(script, name) for name in ("REQUIREMENTS", "POINTS"))
    label = next(each for each in requirements if each.startswith(peer)).replace("==", " ")
    home = (_ENVIRONMENTS / peer).resolve()
    if fault := _install(home, requirements):
        yield from (Point(label, recipe, fault=fault) for recipe in recipes)
        return
    for number, recipe in enumerate(recipes):
        yield _run([str(home / "bin" / "python"), str(script), recipe, str(folder)], home / f"{number}.onnx", label)


def _constant(script: Path, name: str) -> list[str]:
    """Return a list that a script names at its top; importing it would need the peer's packages."""
    for line in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name) and line.targets[0].id == name:
            return [str(each) for each in ast.literal_eval(line.value)]
    raise LookupError(name)


def _install(home: Path, requirements: Sequence[str]) -> str:
    """Make an environment of these requirements unless it is there; return the fault's last line, or nothing."""
    ready, wanted = home / ".ready", "\n".join(requirements) + "\n"
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted:
        return ""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    constraints = home / "constraints.txt"
    constraints.write_text(wanted, encoding="utf-8")
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # torch first and alone: a range that another package names could take a build of another kind.
    torch = [each for each in requirements if each.startswith("torch==")]
    for wave in (torch, requirements):
        if wave:
            done = subprocess.run([*pip, "-c", str(constraints), *wave], check=False, capture_output=True, text=True)
            if done.returncode:
                return f"cannot be installed: {_last(done.stderr)}"
    ready.write_text(wanted, encoding="utf-8")
    return ""


def _run(command: Sequence[str], out: Path, label: str) -> Point:
    """Run one recipe in a process of its own, whose peak memory the system tells when it ends."""
    recipe, log = command[2], out.with_suffix(".log")
    out.unlink(missing_ok=True)
    print(f"{label}: {recipe}", flush=True)
    began = time.perf_counter()
    limited = ["timeout", "--foreground", str(_PATIENCE_S), *command, str(out)]
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(limited, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)  # `timeout` has waited for the peer, so this counts both
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    fault = "" if out.exists() and process.returncode == 0 else f"fails: {_last(log.read_text('utf-8', 'replace'))}"
    return Point(label, recipe, None if fault else out, fault, seconds, 1024 * used.ru_maxrss)


def _last(text: str) -> str:
    """Return the last line that says something, as a cell of a table takes it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].replace("|", "/")[:200] if lines else "no word"


def _row(point: Point, folder: Path) -> list[str]:
    made = [
        "" if point.seconds is None else f"{point.seconds:.0f}",
        "" if point.peak_bytes is None else f"{point.peak_bytes / 1e6:,.0f} MB",
    ]
    measured = [point.fault, *[""] * 6]
    if point.file is not None:
        try:
            measured = _measured(point.file, folder)
        except Exception as fault:  # noqa: BLE001 - a peer's file can break ONNX Runtime in any way; the table says so
            measured[0] = f"ONNX Runtime refuses it: {_last(str(fault))}"
    print(f"{point.library} {point.recipe}: {measured}  load {os.getloadavg()[0]:.1f}", flush=True)
    return [point.library, point.recipe, *measured, *made]


def _measured(file: Path, folder: Path) -> list[str]:
    hits, total = right(file, folder)
    packed = len(zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(file.read_bytes()))
    return [f"{hits / total:.2%}", f"{file.stat().st_size:,}", f"{packed:,}", *_raced(file, folder)]


def _raced(file: Path, folder: Path) -> Iterator[str]:
    """Race a file against the original on test mails; yield p50 and ratio for each batch size."""
    sessions = [session(each) for each in (file, folder / "teacher.onnx")]
    signatures = [signature_of(each) for each in sessions]
    columns = mails_to_test(folder, [spec.name for spec in signatures[1].inputs])
    for size in _BATCHES:
        racers = [
            Racer(
                opened,
                feeds_for(signature, size, Samples({spec.name: columns[spec.name] for spec in signature.inputs})),
            )
            for opened, signature in zip(sessions, signatures, strict=True)
        ]
        found, _ = race(racers[0], racers[1], Setting(size, 2), _RACE_S)
        yield f"{found.p50_ms:.2f} ms"
        yield "" if found.ratio is None else times(found.ratio)


if __name__ == "__main__":
    main()
