"""`modelpress admin`: how queues and work stand, putting work back, setting it aside, retention; beside the database.

A worker is drained with SIGTERM; nothing here does that.
"""

from typing import Annotated, Any

import typer
from pydantic import TypeAdapter
from rich.text import Text

from app.contracts.operations import QueueStanding, RetentionStanding, WorkStanding
from modelpress.cli import render
from modelpress.cli.beside import DataFolder, ask
from modelpress.cli.options import AsJson
from modelpress.cli.printing import print_json
from modelpress.cli.units import duration, scaled

_QUEUES: TypeAdapter[list[QueueStanding]] = TypeAdapter(list[QueueStanding])
_RETENTION: TypeAdapter[list[RetentionStanding]] = TypeAdapter(list[RetentionStanding])
WorkId = Annotated[str, typer.Argument(metavar="ID", help="Of a model, data set, job or benchmark.")]
Reason = Annotated[str, typer.Option("--reason", help="Told to the tenant.")]


def build() -> typer.Typer:
    """Assemble the sub-commands."""
    app = typer.Typer(no_args_is_help=True, help="For operators, beside the database; every change is audited.")
    for command in (queues, work, requeue, quarantine, retention):
        app.command()(command)
    return app


def queues(*, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Tell of each queue what waits, what runs and when a worker last took something."""
    found = _QUEUES.validate_python(ask("app.admin", ["queues"], data))
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo("nothing waits and nothing runs")
        return
    made = render.table("!queue", ">waiting", ">running", ">oldest", ">lost attempts", ">last taken")
    for one in found:
        taken = "never" if one.idle_s is None else f"{duration(one.idle_s)} ago"
        made.add_row(one.queue, str(one.waiting), str(one.running), _time(one.oldest_s), str(one.lost), taken)
    render.console().print(made)


def work(work_id: WorkId, *, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Tell of one piece of work where it stands, who has it and what happened last."""
    _tell(ask("app.admin", ["work", "--", work_id], data), as_json=as_json)


def requeue(work_id: WorkId, *, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Put failed or quarantined work back into its queue, once its cause is cured."""
    _tell(ask("app.admin", ["requeue", "--", work_id], data), as_json=as_json)


def quarantine(work_id: WorkId, *, reason: Reason = "", data: DataFolder = None, as_json: AsJson = False) -> None:
    """Stop waiting or running work and set it aside, as after three lost workers."""
    _tell(ask("app.admin", ["quarantine", f"--reason={reason}", "--", work_id], data), as_json=as_json)


def retention(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Remove now what MODELPRESS_RETENTION lets go, as the sweeper does every hour; or tell what that would be."""
    found = _RETENTION.validate_python(ask("app.admin", ["retention", *(["--dry-run"] if dry_run else [])], data))
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo("nothing would go" if dry_run else "nothing went")
        return
    made = render.table("tenant", "!kind", ">would go" if dry_run else ">went", ">bytes")
    for one in found:
        made.add_row(Text(one.tenant), one.noun, str(one.count), scaled(one.bytes))
    render.console().print(made)


def _tell(answer: Any, *, as_json: bool) -> None:  # noqa: ANN401  # whatever JSON says
    found = WorkStanding.model_validate(answer)
    if as_json:
        print_json(found)
        return
    made = render.table("!fact", "value")
    for name, value in _facts(found):
        made.add_row(name, value)
    render.console().print(made)
    events = render.table(">#", "!at", "!kind", "what")
    for event in found.events:
        entry, at = event.entry, f"{event.at.astimezone():%m-%d %H:%M:%S}"
        what = entry.get("message") or entry.get("stage") or ""
        events.add_row(str(event.id), at, str(entry.get("kind", "")), Text(str(what)))
    render.console().print(events)


def _facts(found: WorkStanding) -> list[tuple[str, Text]]:
    held = "" if found.lease_left_s is None else f", lease ends in {found.lease_left_s:.0f} s"
    facts = {
        "work": f"{found.id} ({found.kind} of {found.tenant}, queue {found.queue})",
        "attempt": f"{found.attempt}, {found.losses} lost with their workers",
        "worker": f"{found.owner or 'none'}{held}",
        "stage": f"{found.progress:.0%} {found.stage}" + (", waits for its candidates" if found.paused else ""),
        "checkpoint": f"{found.checkpoint_at.astimezone():%m-%d %H:%M:%S}" if found.checkpoint_at else "none",
    }
    if found.error is not None:
        facts |= {"error": f"{found.error.name}: {found.error.detail}", "cure": found.error.cure}
    return [("state", render.state(found.state)), *((name, Text(value)) for name, value in facts.items())]


def _time(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)
