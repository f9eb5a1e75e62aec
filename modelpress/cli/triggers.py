"""`modelpress triggers`: make, list, show and delete what starts a stored recipe: signed events, or the time of day."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from app.contracts.dataset import Columns
from app.contracts.goal import Goal
from app.contracts.trigger import Trigger, TriggerCreate, TriggerKind
from modelpress.cli import render
from modelpress.cli.compress import recipe_given
from modelpress.cli.options import DEFAULT_URL, ApiKey, AsJson, DataSource, Limit, Seed, Server, Task, Webhook
from modelpress.cli.printing import print_json
from modelpress.cli.running import model_id
from modelpress.cli.sources import Sources, placed_dataset
from modelpress.client import Client
from modelpress.errors import InvalidInput
from modelpress.steps import goal_of_json

TriggerIdGiven = Annotated[str, typer.Argument(metavar="TRIGGER", help="Id of the trigger, such as trg_01…")]
_MATCHED = ("name", "alias", "source", "subject")


def build() -> typer.Typer:
    """Assemble the sub-commands."""
    app = typer.Typer(no_args_is_help=True, help="What starts a stored recipe: signed events, or the time of day.")
    for name, command in (("create", create), ("list", list_), ("show", show), ("delete", delete)):
        app.command(name)(command)
    return app


def create(  # noqa: PLR0913  # each parameter is one option of the command line
    name: Annotated[str, typer.Argument(help="To tell triggers apart by.")],
    *,
    kind: Annotated[
        TriggerKind | None, typer.Option("--kind", help="Default: schedule with --cron, else standard.")
    ] = None,
    cron: Annotated[str | None, typer.Option("--cron", help='Five fields, such as "0 3 * * 1-5".')] = None,
    timezone: Annotated[str | None, typer.Option("--timezone", help="IANA name; default: UTC.")] = None,
    match: Annotated[
        list[str] | None,
        typer.Option("--match", help="event=, name=, alias=, source=, subject= or tag=KEY=VALUE; repeatable."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="File, folder or id; events may name their own.")] = None,
    data: DataSource = None,
    step: Annotated[list[str] | None, typer.Option("--step", help="As for `modelpress compress`; repeatable.")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="JSON file with a recipe.")] = None,
    goal: Annotated[Path | None, typer.Option("--goal", help="JSON file with a goal in place of a recipe.")] = None,
    task: Task = "classification",
    seed: Seed = 0,
    webhook: Webhook = None,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Store a recipe or a goal behind a signed hook, whose secret is shown this once, or behind a schedule."""
    fields: dict[str, Any] = {
        "name": name,
        "task": task,
        "seed": seed,
        "webhook": webhook,
        "match": _match(match or []),
    }
    fields |= _when(kind, cron, timezone) | _what(step or [], recipe, goal)
    with Client(server, api_key) as client:
        if model is not None:
            fields["model"] = model_id(client, model, quiet=as_json)
        if data is not None:
            sources = Sources("", data, Columns(), None)
            fields["dataset"] = placed_dataset(client, sources, data, quiet=as_json)
        made = client.create_trigger(_valid(fields))
    if as_json:
        print_json(made)
        return
    typer.echo(made.id)
    render.console().print(_facts(made))


def list_(*, limit: Limit = 50, server: Server = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List triggers, newest first, without their secrets."""
    with Client(server, api_key) as client:
        found = list(islice(client.triggers(), limit))
    if as_json:
        print_json(found)
        return
    render.console().print(_table(found) if found else "no triggers yet; make one with `modelpress triggers create`")


def show(
    trigger_id: TriggerIdGiven, *, server: Server = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Show a trigger: of a schedule also when it is due and what its latest time led to."""
    with Client(server, api_key) as client:
        found = client.trigger(trigger_id)
    if as_json:
        print_json(found)
        return
    render.console().print(_facts(found))


def delete(trigger_id: TriggerIdGiven, *, server: Server = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Delete a trigger; its jobs go on."""
    with Client(server, api_key) as client:
        client.delete_trigger(trigger_id)
    typer.echo(f"{trigger_id} deleted")


def _when(kind: TriggerKind | None, cron: str | None, timezone: str | None) -> dict[str, Any]:
    if cron is None:
        if timezone is not None:
            raise InvalidInput("--timezone is that of --cron; say both")
        return {"kind": kind or "standard"}
    return {"kind": kind or "schedule", "schedule": {"cron": cron, "timezone": timezone or "UTC"}}


def _what(steps: list[str], recipe: Path | None, goal: Path | None) -> dict[str, Any]:
    if goal is None:
        return {"recipe": recipe_given(steps, recipe)}
    if steps or recipe:
        raise InvalidInput("say what to do with --step or --recipe, or what to reach with --goal, one of these")
    return {"goal": _goal(goal)}


def _goal(file: Path) -> Goal:
    if not file.is_file():
        raise InvalidInput(f"{file} is not a file")
    return goal_of_json(file.read_text(encoding="utf-8"))


def _match(given: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"events": []}
    for one in given:
        name, _, value = one.partition("=")
        if name == "event":
            found["events"].append(value)
        elif name == "tag":
            key, equals, wanted = value.partition("=")
            if not equals:
                raise InvalidInput("write --match tag=KEY=VALUE")
            found["tag"] = {"key": key, "value": wanted}
        elif name in _MATCHED:
            found[name] = value
        else:
            raise InvalidInput(f"--match takes event, name, alias, source, subject or tag, and no {name!r}")
    return found


def _valid(fields: dict[str, Any]) -> TriggerCreate:
    try:
        return TriggerCreate.model_validate(fields)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'trigger'}: {fault['msg']}" for fault in error.errors())
        raise InvalidInput(said) from error


def _table(found: Sequence[Trigger]) -> Table:
    made = render.table("!trigger", "name", "!kind", "does", "!next", "!last")
    for one in found:
        due = f"{one.next_at.astimezone():%Y-%m-%d %H:%M}" if one.next_at else ""
        made.add_row(one.id, Text(one.name), one.kind, _does(one), due, Text(_last(one)))
    return made


def _facts(one: Trigger) -> Table:
    made = render.table("!fact", "value")
    facts = {"trigger": f"{one.id} ({one.name})", "kind": one.kind, "does": _does(one), "model": one.model}
    facts |= {"data": one.dataset, "hook": one.hook, "secret": one.secret}
    if one.schedule is not None:
        facts["due"] = f"{one.schedule.cron} in {one.schedule.timezone}"
        facts["next"] = f"{one.next_at.astimezone():%Y-%m-%d %H:%M %Z}" if one.next_at else None
        facts["last"] = _last(one)
    for name, value in facts.items():
        if value:
            made.add_row(name, Text(value))
    return made


def _does(one: Trigger) -> str:
    return ", ".join(step.technique for step in one.recipe.steps) if one.recipe else "looks for a goal"


def _last(one: Trigger) -> str:
    if one.last is None:
        return ""
    return f"{one.last.due_at.astimezone():%Y-%m-%d %H:%M} {one.last.job or one.last.reason}"
