"""`modelpress up`: the whole service on this machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from modelpress.stack import StackOptions
from modelpress.stack import up as run


def up(
    data: Annotated[Path, typer.Option("--data", help="Folder that keeps everything.")] = Path("var"),
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than loopback need MODELPRESS_API_KEYS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
) -> None:
    """Run gateway, workers and broker here until Ctrl-C; logs are in <data>/logs.

    DATABASE_URL, BROKER_URL and BLOB_URL replace the bundled SQLite, broker and folder.
    """
    console = Console()
    run(StackOptions(data, host, port), lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
