"""Tables for the terminal. Knows contracts and Rich, no server."""

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from app.contracts.benchmark import BenchmarkResult
from app.contracts.job import Job
from app.contracts.report import Change, Report, StepReport
from app.contracts.technique import TechniqueInfo
from modelpress.cli.units import duration, figure_name, figure_value, scaled

_VERDICT_STYLE = {"better": "green", "worse": "red", "no measurable difference": "dim", "unchanged": "dim"}
_STATE_STYLE = {"succeeded": "green", "ready": "green", "failed": "red", "rejected": "red", "cancelled": "yellow"}


def table(*headings: str, title: str | None = None) -> Table:
    """Return an empty table in the one look of ours; a heading that begins with `>` is right-aligned."""
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for heading in headings:
        made.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    return made


def state(name: str) -> Text:
    """Return the state in its colour."""
    return Text(name, style=_STATE_STYLE.get(name, "cyan"))


def changes(report: Report) -> Table:
    """Before against after, one row per figure."""
    made = table("figure", ">before", ">after", ">change", "verdict")
    for change in report.changes:
        made.add_row(
            figure_name(change.figure),
            figure_value(change.figure, change.before),
            figure_value(change.figure, change.after),
            _change(change),
            Text(change.verdict, style=_VERDICT_STYLE[change.verdict]),
        )
    return made


def _change(change: Change) -> str:
    if change.difference is not None and change.ratio is None:
        estimate = change.difference
        return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]".replace("[", "(").replace("]", ")")
    return f"{change.ratio:.2f}×" if change.ratio is not None else ""


def steps(report: Report) -> Table:
    """One row per step of the recipe."""
    made = table(">#", "step", ">time", ">parameters", ">non-zero", ">file", "score", "notes")
    for step in report.steps:
        made.add_row(
            str(step.index + 1),
            step.technique if step.changed else f"{step.technique} (changed nothing)",
            duration(step.duration_s),
            scaled(step.measurement.parameters),
            scaled(step.measurement.nonzeros),
            scaled(step.measurement.file_bytes, "B"),
            _score(step),
            "; ".join(step.notes),
        )
    return made


def _score(step: StepReport) -> str:
    quality = step.measurement.quality
    if quality is None or not quality.scores:
        return ""
    name, estimate = next(iter(quality.scores.items()))
    return f"{name} {figure_value(name, estimate.value)}"


def jobs(found: list[Job]) -> Table:
    """List jobs."""
    made = table("job", "state", "stage", ">progress", "recipe", "created")
    for job in found:
        recipe = " → ".join(step.technique for step in job.recipe.steps)
        created = f"{job.created_at.astimezone():%Y-%m-%d %H:%M}"
        made.add_row(job.id, state(job.state), job.stage, f"{job.progress:.0%}", recipe, created)
    return made


def options(technique: TechniqueInfo) -> Table:
    """List a technique's options from its JSON Schema."""
    made = table("option", "type", "default", "meaning")
    for name, schema in technique.options.get("properties", {}).items():
        if name != "technique":
            made.add_row(name, _type(schema), str(schema.get("default", "")), schema.get("description", ""))
    return made


def _type(schema: dict[str, Any]) -> str:
    """Write the type with its bounds: `number, > 0, ≤ 100`, `one of a, b`."""
    kinds = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    kind = kinds[0] if kinds else schema
    if "enum" in kind:
        return "one of " + ", ".join(map(str, kind["enum"]))
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {kind[key]}" for key, sign in signs.items() if key in kind]
    return ", ".join([str(kind.get("type", "")), *bounds])


def benchmark(result: BenchmarkResult) -> Table:
    """Candidate beside original, one row per batch size and thread count."""
    made = table(">batch", ">threads", ">original p50", ">artifact p50", ">artifact p99", ">faster", "95 % interval")
    for theirs, ours in zip(result.original.latency, result.candidate.latency, strict=True):
        ratio = result.speedups.get(f"{ours.batch_size}@{ours.threads}") or ours.ratio
        made.add_row(
            str(ours.batch_size),
            str(ours.threads),
            f"{theirs.p50_ms:.3g} ms",
            f"{ours.p50_ms:.3g} ms",
            f"{ours.p99_ms:.3g} ms",
            f"{ratio.value:.2f}×" if ratio else "",
            f"{ratio.low:.2f} to {ratio.high:.2f}" if ratio else "",
        )
    return made
