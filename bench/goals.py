"""A goal in place of a recipe: the same requests on text, pictures, a table and models without labels.

    python -m bench.goals [text origin pictures table direction files] [--budget 1800] [--only fastest]

Nothing but the goal and its budget in seconds is said: the text tasks take about an hour on 2 cores. The recommended
file is then raced against the original by the benchmark endpoint, and its predicted latency compared with the one that
its report measured.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from app.contracts.job import Limits, TaskName
from app.contracts.search import Point, Search
from bench._service import FOLDER, place, service, table, times, write
from bench.text import inputs
from examples import magika, paddle
from examples.originals import diabetes, fashion
from modelpress.client import Client

GOALS: dict[str, dict[str, object]] = {
    "smallest, 1 point": {"minimize": "size", "max_drop": 0.01},
    "fastest, half a point": {"minimize": "latency", "max_drop": 0.005},
}
_LIMITS = Limits(max_run_s=7200)
_HEADS = (
    *("goal", "recommended", "smaller", "faster, batch 1", "faster, batch 8", "validation", "test"),
    *("foretold", "candidates", "minutes"),
)


def _mails(task: str) -> tuple[Path, Path]:
    folder = inputs(task)
    return folder / "teacher.zip", folder / "mails.jsonl"


def _direction() -> tuple[Path, Path]:
    folder = Path("var/examples/paddle")
    if not (folder / "lines.npz").exists():
        paddle.main(folder)
    return folder / "direction.onnx", folder / "lines.npz"


def _files() -> tuple[Path, Path]:
    folder = Path("var/examples/magika")
    if not (folder / "files.npz").exists():
        magika.main(folder)
    return folder / "types.onnx", folder / "files.npz"


_CASES: dict[str, tuple[Callable[[], tuple[Path, Path]], TaskName]] = {
    "text": (lambda: _mails("spam"), "classification"),
    "origin": (lambda: _mails("origin"), "classification"),
    "pictures": (lambda: fashion(FOLDER / "originals", "lenet-5"), "classification"),
    "table": (lambda: diabetes(FOLDER / "originals"), "regression"),
    "direction": (_direction, "match"),
    "files": (_files, "match"),
}


def main() -> None:
    """Ask for each goal on each model and write a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(_CASES)}; all if none is named")
    parser.add_argument("--budget", type=int, default=1800, help="seconds for each goal")
    parser.add_argument("--only", choices=[name.partition(",")[0] for name in GOALS], help="one of the two goals")
    asked = parser.parse_args()
    if unknown := set(asked.cases) - set(_CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    with service() as client:
        for case in asked.cases or _CASES:
            make, task = _CASES[case]
            model, data = make()
            uploaded = client.upload_model(model), client.upload_dataset(data)
            goals = [name for name in GOALS if name.startswith(asked.only or "")]
            rows = [_row(client, case, name, uploaded, task, asked.budget) for name in goals]
            said = "\n".join(f"- {name}: {why}" for name, (why, _) in zip(goals, rows, strict=True))
            first = client.report(next(job for job in client.jobs() if job.goal and job.state == "succeeded").id)
            where = f"{place(first)}; {asked.budget // 60} minutes for each goal."
            write(f"goals-{case}", f"{where}\n\n{table(_HEADS, [row for _, row in rows])}\n\n{said}")


def _row(
    client: Client, case: str, name: str, uploaded: tuple[object, object], task: TaskName, budget_s: int
) -> tuple[str, list[str]]:
    model, dataset = uploaded
    goal = {**GOALS[name], "budget_s": budget_s}
    job = client.wait(client.optimize(model, goal, dataset, task=task, limits=_LIMITS))  # type: ignore[arg-type]
    if job.artifact is None:
        return f"not met: {job.error}", [name, "none", *[""] * (len(_HEADS) - 2)]
    client.download(job.artifact, FOLDER / f"goal-{case}-{name.partition(',')[0]}.onnx")
    found = client.report(job).search
    if found is None:
        raise RuntimeError(job.id)
    best = next(each for each in found.points if each.job == found.recommended)
    raced = client.benchmark(job.artifact, batch_sizes=[1, 8], threads=2).result
    if raced is None:
        raise RuntimeError(job.artifact)
    speeds = [times(raced.speedups[key]) if (key := f"{batch}@2") in raced.speedups else "" for batch in (1, 8)]
    took = (job.ended_at - job.started_at).total_seconds() / 60 if job.ended_at and job.started_at else 0.0
    print(f"{name}: {found.why}  load {os.getloadavg()[0]:.1f}", flush=True)
    drops = [_drop(best.validation_drop), _drop(best.test_drop)]
    row = [name, best.name, f"**{raced.size_ratio:.1f}×**", *speeds, *drops, _foretold(best)]
    return found.why, [*row, _tried(found), f"{took:.0f}"]


def _drop(value: float | None) -> str:
    return "" if value is None else f"{-100 * value:+.2f} points".replace("-", "−")


def _foretold(best: Point) -> str:
    if best.predicted_p50_ms is None or best.figures is None or best.figures.p50_ms is None:
        return ""
    measured = best.figures.p50_ms
    return f"{best.predicted_p50_ms:.3g} ms, {best.predicted_p50_ms / measured - 1:+.0%} of {measured:.3g}".replace(
        "-", "−"
    )


def _tried(found: Search) -> str:
    meeting = sum(each.meets for each in found.points)
    return f"{len(found.points)}, {meeting} meet it; ended by its {found.ended_by}"


if __name__ == "__main__":
    main()
