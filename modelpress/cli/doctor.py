"""`modelpress doctor`: what is wrong with this installation, and the cure."""

import typer
from pydantic import TypeAdapter
from rich.text import Text

from app.contracts.operations import Finding
from modelpress.cli import render
from modelpress.cli.beside import DataFolder, ask
from modelpress.cli.exits import ExitCode
from modelpress.cli.options import AsJson
from modelpress.cli.printing import print_json

_FINDINGS: TypeAdapter[list[Finding]] = TypeAdapter(list[Finding])
_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor(*, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Look for what is wrong with the service on this machine: settings, stores, queues, sandbox; exits with 1 if so.

    Reads only, but for one object that it writes into the blob store and deletes. Needs the service's own environment.
    """
    found = _FINDINGS.validate_python(ask("app.doctor", [], data))
    if as_json:
        print_json(found)
    else:
        _show(found)
    if any(one.level == "problem" for one in found):
        raise typer.Exit(ExitCode.FAILED)


def _show(found: list[Finding]) -> None:
    made = render.table("!", "!about", "finding", "cure")
    for one in found:
        made.add_row(Text(one.level, style=_STYLES[one.level]), one.about, Text(one.finding), Text(one.cure))
    render.console().print(made)
    counts = {level: sum(one.level == level for one in found) for level in ("problem", "warning")}
    typer.echo(", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items()))
