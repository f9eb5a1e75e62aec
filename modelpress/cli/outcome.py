"""What an ended job leaves on this machine: the files in the folder, and the JSON for machines."""

import json
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from app.contracts.job import Job
from app.contracts.report import Report
from modelpress.cli.progress import transfer
from modelpress.client import Client


@dataclass(frozen=True)
class Finish:
    """Where results go and how they are told."""

    out: Path
    dense: bool
    as_json: bool


def write_files(client: Client, job: Job, report: Report | None, finish: Finish) -> dict[str, Path]:
    """Write the reports, and the model where there is one; return what was written, by name."""
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


def print_paths(console: Console, files: dict[str, Path]) -> None:
    """Print one path a line, unbroken."""
    for path in files.values():
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)


def print_ended(job: Job, report: Report | None, files: dict[str, Path]) -> None:
    """Print job, report and paths as one JSON object."""
    told = {
        "job": job.model_dump(mode="json"),
        "report": report.model_dump(mode="json") if report else None,
        "files": {name: str(path) for name, path in files.items()},
    }
    typer.echo(json.dumps(told))
