"""What the benches of whole jobs share: a stack of their own, jobs through the client, sections of docs/results.md."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.contracts.benchmark import BenchmarkResult
from app.contracts.job import Job, Limits
from app.contracts.report import Change, Environment, Estimate, Report
from modelpress.client import Client

RESULTS = Path("docs/results.md")
FOLDER = Path("var/bench")
_READY = re.compile(r"ready at (http://\S+)")
_LIMITS = Limits(max_run_s=7200)
Step = Mapping[str, object]


@dataclass(frozen=True)
class Done:
    """A job that ran through, where its file lies, and how it raced the original."""

    report: Report
    file: Path
    race: BenchmarkResult

    def change(self, figure: str) -> Change:
        """Return one figure before and after."""
        return next(change for change in self.report.changes if change.figure == figure)

    @property
    def smaller(self) -> float:
        """How many times smaller the file is."""
        return self.race.size_ratio


@contextmanager
def service(folder: Path = FOLDER / "data") -> Iterator[Client]:
    """Run `modelpress up` on a free port, with its data in `folder`, and yield a client of it."""
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(1)
    )  # else the stack would go on alone, and disturb the next bench
    command = [str(Path(sys.executable).with_name("modelpress")), "up", "--data", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stack:
        try:
            if stack.stdout is None:
                raise RuntimeError(command)
            address = next((found[1] for line in stack.stdout if (found := _READY.search(line))), None)
            if address is None:
                sys.exit("the stack did not start")
            with Client(address) as client:
                yield client
        finally:
            stack.terminate()


class Bench:
    """Runs jobs on one model and one data set."""

    def __init__(self, client: Client, model: Path, data: Path) -> None:
        """Upload both."""
        self.client, self.name = client, model.stem
        self._model, self._data = client.upload_model(model), client.upload_dataset(data)

    def report(self, name: str, steps: Sequence[Step], **recipe: object) -> Report:
        """Run a recipe and return its report."""
        return self.client.report(self._job(name, steps, recipe))

    def run(self, name: str, steps: Sequence[Step], batches: Sequence[int] = (1, 8), **recipe: object) -> Done:
        """Run a recipe, fetch its file and race it against the original."""
        job = self._job(name, steps, recipe)
        report = self.client.report(job)
        FOLDER.mkdir(parents=True, exist_ok=True)
        file = self.client.download(str(job.artifact), FOLDER / f"{self.name}-{name}.onnx")
        found = self.client.benchmark(str(job.artifact), batch_sizes=list(batches), threads=2)
        if found.result is None:
            sys.exit(f"{name}: no benchmark")
        print(f"{self.name} {name}: {report.verdict}  load {os.getloadavg()[0]:.1f}", flush=True)
        return Done(report, file, found.result)

    def _job(self, name: str, steps: Sequence[Step], recipe: Mapping[str, object]) -> Job:
        body = {"version": 1, "steps": list(steps), **recipe}
        job = self.client.wait(self.client.submit(self._model, body, self._data, seed=0, limits=_LIMITS))
        if job.artifact is None:
            sys.exit(f"{self.name} {name}: {job.error} {json.dumps(body)}")
        return job


def points(estimate: Estimate | None) -> str:
    """Write a difference of shares in points, with its interval."""
    if estimate is None:
        return ""
    value, low, high = (
        f"{100 * each:+.2f}".replace("-", "−") for each in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} points ({low} to {high})"


def times(estimate: Estimate) -> str:
    """Write a ratio with its interval."""
    return f"{estimate.value:.2f}× ({estimate.low:.2f} to {estimate.high:.2f})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def place(report: Report) -> str:
    """Say where a report's figures were taken."""
    return told(report.environment)


def told(found: Environment) -> str:
    """Say where figures are taken, and how busy the machine is."""
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    return f"{threads} of {found.cpu} ({' '.join(found.cpu_flags)}), load {os.getloadavg()[0]:.1f}"


def write(section: str, text: str, page: Path = RESULTS) -> None:
    """Print a section and put it into a page, docs/results.md if none is named, between its marks."""
    print(text)
    begin, end = f"<!-- {section}: written by bench -->", f"<!-- {section}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    if not found:
        sys.exit(f"{page} has no line {begin}")
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
