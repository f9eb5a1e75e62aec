"""Commands that look at, fetch or stop what is on the server."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from app.contracts.artifact import VariantName
from modelpress.cli import render
from modelpress.cli.exits import print_problem
from modelpress.cli.options import DEFAULT_URL, ApiKey, ArtifactId, AsJson, JobId, Limit, Server
from modelpress.cli.printing import print_json
from modelpress.cli.progress import transfer
from modelpress.cli.units import scaled
from modelpress.client import Client
from modelpress.errors import InvalidInput

ReportFormat = Literal["json", "markdown", "html"]


def techniques(
    name: Annotated[str | None, typer.Argument(help="Show one technique's options.")] = None,
    *,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List the techniques, or the options of one with their defaults."""
    with Client(server, api_key) as client:
        found = [info for info in client.techniques() if name in {None, info.name}]
        known = [info.name for info in client.techniques()] if not found else []
    if not found:
        raise InvalidInput(f"unknown technique {name!r}; known: {', '.join(known)}")
    if as_json:
        print_json(found)
        return
    console = render.console()
    if name is None:
        made = render.table("!technique", "what", "needs")
        for info in found:
            needs = "labels" if info.needs_labels else "data" if info.needs_data else ""
            made.add_row(info.name, info.summary, needs)
        console.print(made)
        return
    console.print(f"{found[0].title}: {found[0].summary}\n{found[0].paper}", highlight=False)
    console.print(render.options(found[0]))


def jobs(*, limit: Limit = 20, server: Server = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    with Client(server, api_key) as client:
        found = list(islice(client.jobs(), limit))
    _print(found, render.jobs(found), "no jobs yet; start one with `modelpress compress`", as_json=as_json)


def models(*, limit: Limit = 20, server: Server = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List models, newest first."""
    with Client(server, api_key) as client:
        found = list(islice(client.models(), limit))
    made = render.table("!model", "name", "!state", ">parameters", ">size")
    for model in found:
        parameters = scaled(model.summary.parameters) if model.summary else ""
        made.add_row(model.id, model.name, render.state(model.state), parameters, scaled(model.size_bytes, "B"))
    _print(found, made, "no models yet", as_json=as_json)


def datasets(
    *, limit: Limit = 20, server: Server = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """List data sets, newest first."""
    with Client(server, api_key) as client:
        found = list(islice(client.datasets(), limit))
    made = render.table("!data set", "name", "!state", ">rows", ">size")
    for dataset in found:
        rows = str(dataset.summary.rows) if dataset.summary else ""
        made.add_row(dataset.id, dataset.name, render.state(dataset.state), rows, scaled(dataset.size_bytes, "B"))
    _print(found, made, "no data sets yet", as_json=as_json)


def show(job_id: JobId, *, server: Server = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show a job, and its result when it has one."""
    with Client(server, api_key) as client:
        job = client.job(job_id)
        report = client.report(job) if job.artifact else None
    if as_json:
        print_json(job)
        return
    console = render.console()
    console.print(render.jobs([job]))
    if job.error:
        print_problem(job.error)
    if job.resumable and job.checkpoint:
        console.print(f"modelpress resume {job.id} goes on from {job.checkpoint.position.words}", highlight=False)
    if report:
        console.print(report.verdict, style="bold", markup=False, highlight=False)
        console.print(render.changes(report))
        console.print(f"artifact {job.artifact}", highlight=False)


def cancel(job_id: JobId, *, server: Server = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Ask the server to stop a job."""
    with Client(server, api_key) as client:
        job = client.cancel(job_id)
    if as_json:
        print_json(job)
        return
    render.console().print(f"{job.id} {job.state}", highlight=False)


def resume(job_id: JobId, *, server: Server = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Let a failed or cancelled job go on from its checkpoint."""
    with Client(server, api_key) as client:
        job = client.resume(job_id)
    if as_json:
        print_json(job)
        return
    place = f", from {job.checkpoint.position.words}" if job.checkpoint else ""
    render.console().print(f"{job.id} {job.state}{place}", highlight=False)


def download(  # each parameter is one option of the command line
    artifact: ArtifactId,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="File or folder to write to.")] = Path("model.onnx"),
    variant: Annotated[
        VariantName, typer.Option("--variant", help="packed is small; dense has no decoding.")
    ] = "packed",
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Download an artifact, verified; run again to continue a broken download."""
    with Client(server, api_key) as client, transfer(f"download {artifact}", quiet=as_json) as progress:
        written = client.download(artifact, out, variant, progress)
    typer.echo(json.dumps({"path": str(written)}) if as_json else str(written))


def report(
    job_id: JobId,
    form: Annotated[ReportFormat, typer.Option("--format", help="json, markdown (a model card) or html.")] = "markdown",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File; default: standard output.")] = None,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Print or write the report of a job."""
    with Client(server, api_key) as client:
        text = client.report(job_id).model_dump_json(indent=2) if form == "json" else client.report(job_id, form)
    if out is None:
        typer.echo(text)
        return
    out.write_text(text, encoding="utf-8")


def benchmark(  # noqa: PLR0913  # each parameter is one option of the command line
    artifact: ArtifactId,
    *,
    batch: Annotated[list[int] | None, typer.Option("--batch", min=1, help="Batch size; repeatable.")] = None,
    threads: Annotated[list[int] | None, typer.Option("--threads", min=1, help="Threads; repeatable.")] = None,
    against: Annotated[str | None, typer.Option("--against", help="Model id; default: the original.")] = None,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Time an artifact against its original, interleaved in one run."""
    with Client(server, api_key) as client, Console(stderr=True).status("timing", spinner="line"):
        made = client.benchmark(artifact, batch_sizes=batch or [1, 8], threads=threads or 2, against=against)
    if as_json or made.result is None:
        print_json(made)
        return
    render.console().print(render.benchmark(made.result))


def _print(found: Sequence[BaseModel], made: Table, empty: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    render.console().print(made if found else empty)
