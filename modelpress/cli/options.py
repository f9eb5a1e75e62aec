"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from app.contracts.job import TaskName
from modelpress.client import DEFAULT_URL, Client

Server = Annotated[
    str, typer.Option("--server", envvar="MODELPRESS_SERVER", help="Address of the server.", show_default=True)
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="MODELPRESS_API_KEY", help="Sent as bearer token.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of tables.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many to list.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="File or folder to write to.")]
MaxLoadMs = Annotated[
    float | None, typer.Option("--max-load-ms", min=0.001, help="Most that decoding may add to the load.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, such as job_01…")]
ArtifactId = Annotated[str, typer.Argument(metavar="ARTIFACT", help="Id of the artifact, such as art_01…")]

ModelSource = Annotated[
    str, typer.Argument(help="ONNX file, Hugging Face folder or zip, the id of a model, or what `pull` takes.")
]
DataSource = Annotated[
    str | None, typer.Option("--data", help="npz, csv, jsonl or parquet file, an id, or what `pull` takes.")
]
OutFolder = Annotated[Path, typer.Option("-o", "--out", help="Folder for model.onnx and the reports.")]
Task = Annotated[TaskName, typer.Option("--task", help="match: no labels, agree with the original.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same request and seed: same bytes.")]
TextColumn = Annotated[str | None, typer.Option("--text", help="Column that holds the text.")]
LabelColumn = Annotated[str | None, typer.Option("--label", help="Column or array that holds the label.")]
MaxLength = Annotated[int | None, typer.Option("--max-length", min=1, help="Tokens per text.")]
Webhook = Annotated[str | None, typer.Option("--webhook", help="Address to tell when the job ends.")]
Dense = Annotated[bool, typer.Option("--dense", help="Also write dense.onnx, without decode subgraphs.")]

__all__ = [
    "DEFAULT_URL",
    "ApiKey",
    "ArtifactId",
    "AsJson",
    "Client",
    "DataSource",
    "Dense",
    "JobId",
    "LabelColumn",
    "Limit",
    "MaxLength",
    "MaxLoadMs",
    "ModelSource",
    "Out",
    "OutFolder",
    "Seed",
    "Server",
    "Task",
    "TextColumn",
    "Webhook",
]
