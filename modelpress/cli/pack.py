"""`modelpress pack`: write a model in fewer bytes, losslessly, and show how each tensor is stored."""

import json
from pathlib import Path
from typing import Annotated

import typer

from app.contracts.job import Job
from app.contracts.recipe import Packing, Recipe
from app.contracts.report import Report
from modelpress.cli import render
from modelpress.cli.exits import EXIT_CODES_HELP
from modelpress.cli.options import DEFAULT_URL, ApiKey, AsJson, MaxLoadMs, Server
from modelpress.cli.progress import transfer
from modelpress.cli.running import announce, console_for, exit_code, follow, model_id, report_of
from modelpress.client import Client


def pack(
    model: Annotated[str, typer.Argument(help="ONNX file, Hugging Face folder or zip, or the id of a model.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.")] = Path("packed.onnx"),
    max_load_ms: MaxLoadMs = None,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Store each tensor of a model in its smallest lossless encoding: same outputs, fewer bytes."""
    recipe = Recipe(pack=Packing(max_load_ms=max_load_ms), steps=[])
    with Client(server, api_key) as client:
        job = client.submit(model_id(client, model, quiet=as_json), recipe)
        announce(job, quiet=as_json)
        ended = follow(client, job, quiet=as_json)
        report = report_of(client, ended)
        if ended.artifact is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            with transfer(f"download {out.name}", quiet=as_json) as progress:
                out = client.download(ended.artifact, out, "packed", progress)
    _tell(ended, report, out, as_json=as_json)
    raise typer.Exit(exit_code(ended))


pack.__doc__ = f"{pack.__doc__}\n\n{EXIT_CODES_HELP}"


def _tell(job: Job, report: Report | None, file: Path, *, as_json: bool) -> None:
    if as_json:
        dumped = report.model_dump(mode="json") if report else None
        typer.echo(
            json.dumps(
                {"job": job.model_dump(mode="json"), "report": dumped, "file": str(file) if job.artifact else None}
            )
        )
        return
    console = console_for(job, report)
    if report is None:
        return
    console.print(render.tensors(report))
    console.print(report.verdict, style="bold", markup=False, highlight=False)
    for note in report.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    if job.artifact:
        console.print(str(file), markup=False, highlight=False, soft_wrap=True)
