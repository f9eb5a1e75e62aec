"""`modelpress compress`: upload, run a recipe, show the result, write the files."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.contracts.dataset import Columns
from app.contracts.goal import MetricName
from app.contracts.job import Guard, Job
from app.contracts.recipe import Recipe
from app.contracts.report import Report
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
    MaxLoadMs,
    ModelSource,
    OutFolder,
    Seed,
    Server,
    Task,
    TextColumn,
    Webhook,
)
from modelpress.cli.outcome import Finish, print_ended, print_paths, write_files
from modelpress.cli.running import announce, console_for, exit_code, follow, report_of
from modelpress.cli.sources import Sources, upload
from modelpress.client import Client
from modelpress.errors import InvalidInput
from modelpress.options import JobOptions
from modelpress.steps import amended, recipe_of, recipe_of_json


class Control(StrEnum):
    """Kinds of control as the command line writes them; the names are the contract's."""

    WITHOUT_RETRAINING = "without-retraining"
    WITHOUT_TEACHER = "without-teacher"


def compress(  # noqa: PLR0913  # each parameter is one option of the command line
    model: ModelSource,
    *,
    data: DataSource = None,
    step: Annotated[
        list[str] | None, typer.Option("--step", help="technique[:option=value,...]; repeat for more steps, in order.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="JSON file with a recipe instead of --step.")] = None,
    control: Annotated[
        list[Control] | None,
        typer.Option("--control", help="Also run the steps without retraining, or without a teacher; repeat for both."),
    ] = None,
    max_load_ms: MaxLoadMs = None,
    out: OutFolder = Path("out"),
    task: Task = "classification",
    max_drop: Annotated[
        float | None,
        typer.Option("--max-drop", min=0, max=1, help="Fail when the metric drops by more (0.01: a point)."),
    ] = None,
    metric: Annotated[MetricName, typer.Option("--metric", help="Metric that --max-drop guards.")] = "accuracy",
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
    """Compress a model and write model.onnx, report.json and report.md."""
    chosen = _amended(recipe_given(step or [], recipe), control or [], max_load_ms)
    sources = Sources(model, data, Columns(text=text, label=label), max_length)
    options: JobOptions = {"task": task, "seed": seed, "webhook": webhook}
    if max_drop is not None:
        options["guard"] = Guard(metric=metric, max_drop=max_drop)
    finish = Finish(out, dense, as_json)
    with Client(server, api_key) as client:
        placed = upload(client, sources, quiet=as_json)
        job = client.submit(placed.model, chosen, placed.dataset, **options)
        announce(job, quiet=as_json)
        ended = follow(client, job, quiet=as_json)
        code = _conclude(client, ended, finish)
    raise typer.Exit(code)


compress.__doc__ = f"{compress.__doc__}\n\n{EXIT_CODES_HELP}"


def recipe_given(steps: list[str], file: Path | None) -> Recipe:
    """Return the recipe that a command line says or names; raises InvalidInput unless it is one of the two."""
    if bool(steps) == bool(file):
        raise InvalidInput("say what to do with --step (repeatable) or with --recipe FILE, one of the two")
    if file is None:
        return recipe_of(steps)
    if not file.is_file():
        raise InvalidInput(f"{file} is not a file")
    return recipe_of_json(file.read_text(encoding="utf-8"))


def _amended(recipe: Recipe, controls: list[Control], max_load_ms: float | None) -> Recipe:
    """Return the recipe with what the command line says beside its steps."""
    if controls:
        recipe = amended(recipe, controls=[control.name.lower() for control in controls])
    return recipe if max_load_ms is None else amended(recipe, pack={"max_load_ms": max_load_ms})


def _conclude(client: Client, job: Job, finish: Finish) -> ExitCode:
    report = report_of(client, job)
    files = write_files(client, job, report, finish)
    if finish.as_json:
        print_ended(job, report, files)
    else:
        _print(job, report, files)
    return exit_code(job)


def _print(job: Job, report: Report | None, files: dict[str, Path]) -> None:
    console = console_for(job, report)
    if report is None:
        return
    console.print(report.verdict, style="bold", markup=False, highlight=False)
    console.print(render.changes(report))
    if report.controls:
        console.print(render.controls(report))
    console.print(render.steps(report))
    for repair in report.guard_causes.repairs if report.guard_causes else ():
        console.print(f"repair: {repair.advice}", markup=False, highlight=False)
    for note in report.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    print_paths(console, files)
