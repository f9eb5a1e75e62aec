"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

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

__all__ = ["DEFAULT_URL", "ApiKey", "ArtifactId", "AsJson", "Client", "JobId", "Limit", "MaxLoadMs", "Out", "Server"]
