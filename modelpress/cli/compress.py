"""`modelpress compress`: upload, run a recipe, show the result, write the files."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from app.contracts.dataset import Columns
from app.contracts.job import Guard, Job, TaskName
from app.contracts.recipe import Recipe
from app.contracts.report import Report
from modelpress.cli import render
from modelpress.cli.exits import EXIT_CODES_HELP, ExitCode
from modelpress.cli.options import DEFAULT_URL, ApiKey, AsJson, MaxLoadMs, Server
from modelpress.cli.progress import transfer
from modelpress.cli.running import console_for, exit_code, follow, model_id, report_of
from modelpress.client import Client
from modelpress.errors import InvalidInput
from modelpress.options import DatasetOptions, JobOptions
from modelpress.steps import amended, recipe_of, recipe_of_json

Metric = Literal["accuracy", "macro_recall", "macro_f1", "agreement", "r2"]


class Control(StrEnum):
    """Kinds of control as the command line writes them; the names are the contract's."""

    WITHOUT_RETRAINING = "without-retraining"
    WITHOUT_TEACHER = "without-teacher"


@dataclass(frozen=True)
class Sources:
    """What to compress: a path, or the id of what is already on the server."""

    model: str
    dataset: str | None
    columns: Columns
    max_length: int | None


@dataclass(frozen=True)
class Finish:
    """Where results go and how they are told."""

    out: Path
    dense: bool
    as_json: bool


def compress(  # noqa: PLR0913  # each parameter is one option of the command line
    model: Annotated[str, typer.Argument(help="ONNX file, Hugging Face folder or zip, or the id of a model.")],
    *,
    data: Annotated[str | None, typer.Option("--data", help="npz, csv, jsonl or parquet file, or an id.")] = None,
    step: Annotated[
        list[str] | None, typer.Option("--step", help="technique[:option=value,...]; repeat for more steps, in order.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="JSON file with a recipe instead of --step.")] = None,
    control: Annotated[
        list[Control] | None,
        typer.Option("--control", help="Also run the steps without retraining, or without a teacher; repeat for both."),
    ] = None,
    max_load_ms: MaxLoadMs = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for model.onnx and the reports.")] = Path("out"),
    task: Annotated[TaskName, typer.Option("--task", help="match: no labels, agree with the original.")] = (
        "classification"
    ),
    max_drop: Annotated[
        float | None,
        typer.Option("--max-drop", min=0, max=1, help="Fail when the metric drops by more (0.01: a point)."),
    ] = None,
    metric: Annotated[Metric, typer.Option("--metric", help="Metric that --max-drop guards.")] = "accuracy",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same request and seed: same bytes.")] = 0,
    text: Annotated[str | None, typer.Option("--text", help="Column that holds the text.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Column or array that holds the label.")] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", min=1, help="Tokens per text.")] = None,
    webhook: Annotated[str | None, typer.Option("--webhook", help="Address to tell when the job ends.")] = None,
    dense: Annotated[bool, typer.Option("--dense", help="Also write dense.onnx, without decode subgraphs.")] = False,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Compress a model and write model.onnx, report.json and report.md."""
    chosen = _amended(_recipe(step or [], recipe), control or [], max_load_ms)
    sources = Sources(model, data, Columns(text=text, label=label), max_length)
    options: JobOptions = {"task": task, "seed": seed, "webhook": webhook}
    if max_drop is not None:
        options["guard"] = Guard(metric=metric, max_drop=max_drop)
    finish = Finish(out, dense, as_json)
    with Client(server, api_key) as client:
        job = _submit(client, sources, chosen, options, quiet=as_json)
        ended = follow(client, job, quiet=as_json)
        code = _conclude(client, ended, finish)
    raise typer.Exit(code)


compress.__doc__ = f"{compress.__doc__}\n\n{EXIT_CODES_HELP}"


def _recipe(steps: list[str], file: Path | None) -> Recipe:
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


def _submit(client: Client, sources: Sources, recipe: Recipe, options: JobOptions, *, quiet: bool) -> Job:
    model = model_id(client, sources.model, quiet=quiet)
    dataset = _dataset(client, sources, quiet=quiet) if sources.dataset else None
    job = client.submit(model, recipe, dataset, **options)
    if not quiet:
        Console(stderr=True).print(f"job {job.id}", highlight=False)
    return job


def _dataset(client: Client, sources: Sources, *, quiet: bool) -> str:
    source = sources.dataset or ""
    if source.startswith("dst_") and not Path(source).exists():
        return client.dataset(source).id
    if not Path(source).exists():
        raise InvalidInput(f"{source} does not exist")
    options: DatasetOptions = {"columns": sources.columns}
    if sources.max_length:
        options["max_length"] = sources.max_length
    with transfer(f"upload {Path(source).name}", quiet=quiet) as progress:
        return client.upload_dataset(source, progress=progress, **options).id


def _conclude(client: Client, job: Job, finish: Finish) -> ExitCode:
    report = report_of(client, job)
    files = _write(client, job, report, finish)
    if finish.as_json:
        _print_json(job, report, files)
    else:
        _print(job, report, files)
    return exit_code(job)


def _write(client: Client, job: Job, report: Report | None, finish: Finish) -> dict[str, Path]:
    files: dict[str, Path] = {}
    if report is None:
        return files
    finish.out.mkdir(parents=True, exist_ok=True)
    files["report.json"] = finish.out / "report.json"
    files["report.json"].write_text(report.model_dump_json(indent=2), encoding="utf-8")
    files["report.md"] = finish.out / "report.md"
    files["report.md"].write_text(client.report(job, "markdown"), encoding="utf-8")
    if job.artifact is None:
        return files
    with transfer("download model.onnx", quiet=finish.as_json) as progress:
        files["model.onnx"] = client.download(job.artifact, finish.out / "model.onnx", "packed", progress)
    if finish.dense:
        files["dense.onnx"] = client.download(job.artifact, finish.out / "dense.onnx", "dense")
    return files


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
    for path in files.values():
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)


def _print_json(job: Job, report: Report | None, files: dict[str, Path]) -> None:
    told = {
        "job": job.model_dump(mode="json"),
        "report": report.model_dump(mode="json") if report else None,
        "files": {name: str(path) for name, path in files.items()},
    }
    typer.echo(json.dumps(told))
