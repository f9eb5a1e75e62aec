"""`modelpress optimize`: upload, let the service look for a recipe, show the front, write the best."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.contracts.dataset import Columns
from app.contracts.goal import DeviceProfile, MetricName, Objective
from app.contracts.job import Job
from app.contracts.report import Report
from app.contracts.search import Point, Search
from modelpress.cli import render
from modelpress.cli.exits import EXIT_CODES_HELP, ExitCode
from modelpress.cli.options import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    DataSource,
    Dense,
    LabelColumn,
    MaxLength,
    ModelSource,
    OutFolder,
    Seed,
    Server,
    Task,
    TextColumn,
    Webhook,
)
from modelpress.cli.outcome import Finish, print_ended, print_paths, write_files
from modelpress.cli.quantities import seconds, size_bytes
from modelpress.cli.running import announce, console_for, exit_code, follow, report_of
from modelpress.cli.sources import Sources, upload
from modelpress.client import Client
from modelpress.errors import ClientError
from modelpress.options import JobOptions
from modelpress.steps import goal_of


def optimize(  # noqa: PLR0913  # each parameter is one option of the command line
    model: ModelSource,
    *,
    data: DataSource = None,
    minimize: Annotated[Objective, typer.Option("--minimize", help="What to be best at.")] = "size",
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0, max=1, help="Most that the metric may lose (0.01: a point).")
    ] = 0.01,
    metric: Annotated[
        MetricName | None,
        typer.Option("--metric", help="Metric that is held; default: accuracy, or as the task has it."),
    ] = None,
    max_recall_drop: Annotated[
        float | None,
        typer.Option("--max-recall-drop", min=0, max=1, help="Most that the recall of any class may lose."),
    ] = None,
    max_size: Annotated[
        int | None, typer.Option("--max-size", parser=size_bytes, metavar="SIZE", help="Most bytes of the file: 4MB.")
    ] = None,
    max_p50_ms: Annotated[
        float | None, typer.Option("--max-p50-ms", min=0.0001, help="Most milliseconds of the median call.")
    ] = None,
    max_memory: Annotated[
        int | None,
        typer.Option("--max-memory", parser=size_bytes, metavar="SIZE", help="Most memory that loading may add."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Rows of a timed call: 1 or 8.")] = 1,
    device: Annotated[DeviceProfile, typer.Option("--device", help="What the result will run on.")] = "cpu-server",
    budget: Annotated[
        int, typer.Option("--budget", parser=seconds, metavar="TIME", help="How long to look: 90s, 20m, 2h.")
    ] = "30m",  # type: ignore[assignment]  # a default is parsed like what is typed
    out: OutFolder = Path("out"),
    task: Task = "classification",
    seed: Seed = 0,
    text: TextColumn = None,
    label: LabelColumn = None,
    max_length: MaxLength = None,
    webhook: Webhook = None,
    dense: Dense = False,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Look for the best recipe for a goal, and write model.onnx, recipe.json and the reports."""
    bounds = {"max_size_bytes": max_size, "max_p50_ms": max_p50_ms, "max_resident_bytes": max_memory}
    quality = {"metric": metric, "max_drop": max_drop, "max_recall_drop": max_recall_drop}
    aim = {"minimize": minimize, "batch_size": batch_size, "device": device, "budget_s": budget}
    sources = Sources(model, data, Columns(text=text, label=label), max_length)
    options: JobOptions = {"task": task, "seed": seed, "webhook": webhook}
    goal = goal_of({**aim, **quality, **bounds})
    with Client(server, api_key) as client:
        placed = upload(client, sources, quiet=as_json)
        job = client.optimize(placed.model, goal, placed.dataset, **options)
        announce(job, quiet=as_json)
        ended = follow(client, job, quiet=as_json, aside=lambda: count(client, job))
        code = _conclude(client, ended, Finish(out, dense, as_json))
    raise typer.Exit(code)


optimize.__doc__ = f"{optimize.__doc__}\n\n{EXIT_CODES_HELP}"


def count(client: Client, job: Job) -> str:
    """Say how many candidates have ended; a question that fails is no reason to stop following the job."""
    with suppress(ClientError):
        found = [candidate for candidate in client.jobs(parent=job) if candidate.parent == job.id]
        if found:
            return f"{sum(candidate.state.final for candidate in found)} of {len(found)} candidates ended"
    return ""


def _conclude(client: Client, job: Job, finish: Finish) -> ExitCode:
    report = report_of(client, job)
    files = write_files(client, job, report, finish)
    best = _recommended(report.search) if report and report.search else None
    if best is not None:
        files["recipe.json"] = finish.out / "recipe.json"
        files["recipe.json"].write_text(best.recipe.model_dump_json(indent=2), encoding="utf-8")
    if finish.as_json:
        print_ended(job, report, files)
        return exit_code(job)
    console = console_for(job, report)
    if report is not None:
        _print(console, report)
        print_paths(console, files)
    return exit_code(job)


def _print(console: Console, report: Report) -> None:
    search = report.search
    said = report.verdict if search is None or search.recommended else "The goal is not met."
    console.print(said, style="bold", markup=False, highlight=False)
    if search is not None:
        console.print(render.points(search, _front(search)))
        console.print(search.why, markup=False, highlight=False)
        _print_nearest(console, search)
    for note in report.notes:
        console.print(f"note: {note}", markup=False, highlight=False)


def _print_nearest(console: Console, search: Search) -> None:
    """Show what comes closest to a goal that nothing meets, and how to get it all the same."""
    points = {point.job: point for point in search.points}
    nearest = [points[job] for job in search.nearest if job in points]
    if not nearest:
        return
    console.print("\nclosest to the goal", style="bold")
    console.print(render.points(search, nearest))
    for point in nearest:
        if point.artifact is not None:
            console.print(f"modelpress download {point.artifact}", highlight=False, soft_wrap=True)


def _front(search: Search) -> list[Point]:
    """Return the recommended point and the front, smallest file first."""
    shown = {*search.front, search.recommended}
    measured = [(point.figures.file_bytes, point) for point in search.points if point.figures and point.job in shown]
    return [point for _, point in sorted(measured, key=lambda pair: pair[0])]


def _recommended(search: Search) -> Point | None:
    return next((point for point in search.points if point.job == search.recommended), None)
