"""`modelpress keys`: make, list, rotate and revoke API keys of one's own tenant."""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated

import typer
from rich.table import Table

from app.contracts.key import Key
from modelpress.cli import render
from modelpress.cli.options import DEFAULT_URL, ApiKey, AsJson, Limit, Server
from modelpress.cli.printing import print_json
from modelpress.client import Client

KeyIdGiven = Annotated[str, typer.Argument(metavar="KEY", help="Id of the key, such as key_01…")]
DAY_S = 86_400


def build() -> typer.Typer:
    """Assemble the sub-commands."""
    app = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke API keys (needs the scope admin).")
    for name, command in (("create", create), ("list", list_), ("rotate", rotate), ("revoke", revoke)):
        app.command(name)(command)
    return app


def create(
    name: Annotated[str, typer.Argument(help="To tell keys apart by, such as the pipeline that uses it.")],
    *,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="read, write, admin; default: the first two.")
    ] = None,
    days: Annotated[float | None, typer.Option("--days", min=0.001, help="Until it expires; default: never.")] = None,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: it is shown this once."""
    with Client(server, api_key) as client:
        made = client.create_key(name, scope or ["read", "write"], None if days is None else round(days * DAY_S))
    _show_once(made, as_json=as_json)


def list_(*, limit: Limit = 50, server: Server = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List keys, newest first, revoked and expired ones too."""
    with Client(server, api_key) as client:
        found = list(islice(client.keys(), limit))
    if as_json:
        print_json(found)
        return
    render.console().print(_table(found) if found else "no keys yet; make one with `modelpress keys create`")


def rotate(
    key_id: KeyIdGiven,
    *,
    grace_hours: Annotated[float, typer.Option("--grace-hours", min=0, help="The old key opens for so long.")] = 24,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make the successor of a key and print it: it is shown this once."""
    with Client(server, api_key) as client:
        made = client.rotate_key(key_id, round(grace_hours * 3_600))
    _show_once(made, as_json=as_json)


def revoke(key_id: KeyIdGiven, *, server: Server = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """End a key; it opens nothing after a few seconds."""
    with Client(server, api_key) as client:
        client.revoke_key(key_id)
    typer.echo(f"{key_id} revoked")


def _show_once(made: Key, *, as_json: bool) -> None:
    """Print the key alone on standard output, so that a script can take it, and the rest beside it."""
    if as_json:
        print_json(made)
        return
    typer.echo(made.key)
    ends = f", expires {made.expires_at:%Y-%m-%d %H:%M} UTC" if made.expires_at else ""
    typer.echo(f"{made.id} ({', '.join(made.scopes)}{ends}); it is not shown again", err=True)


def _table(found: Sequence[Key]) -> Table:
    made = render.table("!key", "name", "!begins with", "scopes", "!used", "!ends")
    for key in found:
        used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else ""
        ends = f"{key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else ""
        made.add_row(key.id, key.name, key.prefix, " ".join(key.scopes), used, "revoked" if key.revoked_at else ends)
    return made
