"""Tables for the terminal. Knows contracts and Rich, no server."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.contracts.benchmark import BenchmarkResult
from app.contracts.job import Job
from app.contracts.report import Change, Quality, Report, StepReport
from app.contracts.search import Point, Search
from app.contracts.technique import TechniqueInfo
from modelpress.cli.units import (
    drop_value,
    duration,
    figure_difference,
    figure_name,
    figure_value,
    goal_words,
    ratio_value,
    scaled,
)

_VERDICT_STYLE = {"better": "green", "worse": "red", "no measurable difference": "dim", "unchanged": "dim"}
_PIPE_COLUMNS = 160
_STATE_STYLE = {"succeeded": "green", "ready": "green", "failed": "red", "rejected": "red", "cancelled": "yellow"}


def console() -> Console:
    """Return standard output; a pipe has no width of its own and gets one that no table of ours exceeds."""
    found = Console()
    return found if found.is_terminal else Console(width=_PIPE_COLUMNS)


def table(*headings: str, title: str | None = None) -> Table:
    """Return an empty table in the one look of ours.

    A heading that begins with `>` is right-aligned; `>` and `!` columns never wrap: a broken figure cannot be read.
    """
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading.startswith(">") else "left"
        whole = heading[0] in ">!"
        made.add_column(heading.lstrip(">!"), justify=justify, no_wrap=whole, overflow="fold")
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
            _change(change, report.after.quality),
            Text(
                change.verdict.replace("no measurable difference", "not measurable"),
                style=_VERDICT_STYLE[change.verdict],
            ),
        )
    return made


def _change(change: Change, quality: Quality | None) -> str:
    if change.difference is not None and change.ratio is None:
        rows = f"{quality.split} rows" if quality else "rows"
        return f"{figure_difference(change.figure, change.difference)}, {change.difference.samples:,} {rows}"
    if change.ratio_interval is not None:
        return ratio_value(change.ratio_interval)
    return _times(change.ratio)


def controls(report: Report) -> Table:
    """The original, the result and each control side by side; below a score by how much the result's is higher."""
    kinds = [f">{control.kind.replace('_', ' ')}" for control in report.controls]
    made = table("figure", ">the original", ">this result", *kinds)
    sizes = [report.before.file_bytes, report.after.file_bytes, *(control.file_bytes for control in report.controls)]
    made.add_row(figure_name("file_bytes"), *(scaled(size, "B") for size in sizes))
    qualities = [report.before.quality, report.after.quality, *(control.quality for control in report.controls)]
    for name in report.after.quality.scores if report.after.quality else {}:
        scores = [quality.scores.get(name) if quality else None for quality in qualities]
        made.add_row(figure_name(name), *(figure_value(name, score.value) if score else "" for score in scores))
        paired = [control.differences.get(name) for control in report.controls]
        if any(paired):
            told = [figure_difference(name, difference) if difference else "" for difference in paired]
            made.add_row("  this result's is higher by", "", "", *told)
    return made


def steps(report: Report) -> Table:
    """One row per step of the recipe."""
    made = table(">#", "!step", ">time", ">parameters", ">non-zero", ">file", "score", "notes")
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


def tensors(report: Report) -> Table:
    """One row per large tensor, largest first: how it is stored, and its share of a call's time."""
    made = table(
        "tensor", "operator", "!shape", "!encoding", ">bits", ">entropy", ">before", ">after", ">load", ">time"
    )
    for tensor in sorted(report.tensors, key=lambda tensor: -tensor.dense_bytes):
        made.add_row(
            tensor.name,
            tensor.operator,
            "×".join(map(str, tensor.shape)),
            tensor.encoding,
            f"{tensor.bits_per_weight:.2f}",
            f"{tensor.entropy_bits_per_weight:.2f}",
            scaled(tensor.dense_bytes, "B"),
            scaled(tensor.packed_bytes, "B"),
            "" if tensor.load_ms is None else f"{tensor.load_ms:.1f} ms",
            "" if tensor.latency_share is None else f"{tensor.latency_share:.1%}",
        )
    return made


def _score(step: StepReport) -> str:
    quality = step.measurement.quality
    if quality is None or not quality.scores:
        return ""
    name, estimate = next(iter(quality.scores.items()))
    return f"{name} {figure_value(name, estimate.value)} on {quality.samples:,} {quality.split} rows"


def jobs(found: list[Job]) -> Table:
    """List jobs."""
    made = table("!job", "!state", "!created", "recipe or goal", "now")
    for job in found:
        now = "" if job.state.final else f"{job.progress:.0%} {job.stage}"
        made.add_row(job.id, state(job.state), f"{job.created_at.astimezone():%m-%d %H:%M}", _asked(job), now)
    return made


def _asked(job: Job) -> str:
    if job.goal is not None:
        return f"goal: {goal_words(job.goal, job.task)}"
    steps = job.recipe.steps if job.recipe else []
    return " → ".join(step.technique for step in steps) or "pack"


def points(search: Search, shown: Sequence[Point]) -> Table:
    """Points of a search, one a row."""
    made = table(
        "candidate", ">file", ">smaller", ">faster", ">validation drop", ">test drop", "meets the goal", "!choice"
    )
    for point in shown:
        best = point.job == search.recommended
        made.add_row(
            Text(point.name),
            scaled(point.figures.file_bytes, "B") if point.figures else "",
            _times(point.smaller),
            _times(point.faster),
            drop_value(search.metric, point.validation_drop),
            drop_value(search.metric, point.test_drop),
            Text("yes" if point.meets else "; ".join(point.misses) or (point.error.title if point.error else "no")),
            "recommended" if best else "",
            style="bold" if best else "",
        )
    return made


def _times(ratio: float | None) -> str:
    return f"{ratio:.2f}×" if ratio is not None else ""


def options(technique: TechniqueInfo) -> Table:
    """List a technique's options from its JSON Schema."""
    made = table("!option", "type", "default", "meaning")
    for name, schema in technique.options.get("properties", {}).items():
        if name != "technique":
            made.add_row(name, _type(schema), _default(schema), schema.get("description", ""))
    return made


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    return "" if value is None else json.dumps(value, ensure_ascii=False).strip('"')


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
