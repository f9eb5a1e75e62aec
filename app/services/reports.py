"""A job's report as tables: read here, rendered as a Markdown model card or as one HTML page.

Names inside a report come from strangers' models: Markdown cells are escaped here, HTML by the template.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.contracts.job import Job
from app.contracts.report import Change, Estimate, Report, StepReport, TensorReport
from app.errors import Conflict, NotFound
from app.services.caller import Caller
from app.services.jobs import job_of
from app.stores import records
from app.stores.tables import jobs

_TEMPLATES = Path(__file__).parent.parent / "web" / "templates"
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")
_RETRY_AFTER_S = 5
_BYTE_FIGURES = frozenset({"file_bytes", "zstd_bytes", "resident_bytes"})
_SHARE_FIGURES = frozenset({"accuracy", "macro_recall", "macro_f1", "agreement"})


@dataclass(frozen=True)
class Sheet:
    """One table for people: every cell is text already."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Story:
    """A report with the job that it belongs to."""

    job: Job
    report: Report


def read(caller: Caller, job_id: str) -> Story:
    """Return a job's report.

    Raises Conflict while the job has not ended, NotFound when it ended without a report.
    """
    with caller.resources.database.reading() as tx:
        row = records.get(tx, jobs, caller.tenant, job_id)
    job = job_of(row)
    if row["report"] is not None:
        return Story(job, Report.model_validate(row["report"]))
    if not job.state.final:
        msg = "The job has not ended; its report is written at the end."
        raise Conflict(msg, retry_after_s=_RETRY_AFTER_S)
    msg = f"The job ended as {job.state} before anything was measured; its `error` says why."
    raise NotFound(msg)


def markdown(story: Story) -> str:
    """Return the report as a model card in Markdown with a YAML head."""
    report = story.report
    parts = [_front_matter(story), f"# {_escaped(report.verdict)}", _notes(report)]
    parts += [_markdown_sheet(sheet) for sheet in sheets(story)]
    return "\n\n".join(part for part in parts if part) + "\n"


def html(story: Story) -> str:
    """Return the report as one HTML page that needs no script and no other file."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    template = environment.get_template("report.html")
    return template.render(job=story.job, report=story.report, sheets=sheets(story))


def sheets(story: Story) -> list[Sheet]:
    """Return the report's tables: before and after, steps, layers, where it was measured."""
    report = story.report
    return [
        Sheet(
            "Before and after",
            ["figure", "before", "after", "change", "ratio", "verdict"],
            [_change_row(change) for change in report.changes],
        ),
        Sheet(
            "Steps",
            ["step", "technique", "file size", "score", "seconds", "changed", "notes"],
            [_step_row(step) for step in report.steps],
        ),
        Sheet(
            "Layers",
            ["tensor", "operator", "shape", "non-zero", "values", "encoding", "bits/weight", "bytes before", "after"],
            [_tensor_row(tensor) for tensor in report.tensors],
        ),
        Sheet("How it was made", ["what", "value"], _origin_rows(story)),
    ]


def _change_row(change: Change) -> list[str]:
    return [
        change.figure,
        shown(change.figure, change.before),
        shown(change.figure, change.after),
        _interval(change.figure, change.difference),
        f"{change.ratio:.2f}×" if change.ratio is not None else "",
        change.verdict,
    ]


def _step_row(step: StepReport) -> list[str]:
    quality = step.measurement.quality
    scores = quality.scores if quality else {}
    first = next(((name, scores[name]) for name in ("accuracy", "agreement", "r2") if name in scores), None)
    return [
        str(step.index + 1),
        step.technique,
        _bytes(step.measurement.file_bytes),
        f"{first[0]} {shown(first[0], first[1].value)}" if first else "",
        f"{step.duration_s:.1f}",
        "yes" if step.changed else "no",
        " ".join(step.notes),
    ]


def _tensor_row(tensor: TensorReport) -> list[str]:
    return [
        tensor.name,
        tensor.operator,
        "×".join(map(str, tensor.shape)),
        f"{tensor.nonzeros / max(tensor.parameters, 1):.0%}",
        f"{tensor.unique_values:,}",
        tensor.encoding,
        f"{tensor.bits_per_weight:.2f}",
        _bytes(tensor.dense_bytes),
        _bytes(tensor.packed_bytes),
    ]


def _origin_rows(story: Story) -> list[list[str]]:
    report, job = story.report, story.job
    environment = report.environment
    return [
        ["job", job.id],
        ["model", job.model],
        ["data set", job.dataset or "none"],
        ["recipe", json.dumps(job.recipe.model_dump(mode="json", exclude_none=True))],
        ["seed", str(report.seed)],
        *[[f"sha256 of {name}", digest] for name, digest in report.digests.items()],
        ["processor", f"{environment.cpu} ({' '.join(environment.cpu_flags)})"],
        ["threads", str(environment.threads)],
        ["device", environment.device],
        ["versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items())],
        ["duration", f"{report.duration_s:.0f} s"],
    ]


def shown(figure: str, value: float) -> str:
    """Return a figure's value with its unit."""
    if figure in _BYTE_FIGURES:
        return _bytes(value)
    if figure in _SHARE_FIGURES:
        return f"{value:.2%}"
    if figure.partition("@")[0].endswith("_ms"):
        return f"{value:.3g} ms"
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def _interval(figure: str, estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if figure in _SHARE_FIGURES:
        low, value, high = (f"{100 * part:+.2f}" for part in (estimate.low, estimate.value, estimate.high))
        return f"{value} points [{low}, {high}], n = {estimate.samples:,}"
    return f"{estimate.value:+.4g} [{estimate.low:+.4g}, {estimate.high:+.4g}], n = {estimate.samples:,}"


def _bytes(size: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size:.0f} B"


def _front_matter(story: Story) -> str:
    head = {
        "library_name": "onnxruntime",
        "base_model": story.job.model,
        "base_model_relation": "quantized",
        "datasets": [story.job.dataset] if story.job.dataset else [],
        "tags": ["onnx", "compressed", *dict.fromkeys(step.technique for step in story.job.recipe.steps)],
    }
    # JSON values are YAML values.
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in head.items()), "---"])


def _notes(report: Report) -> str:
    said = [f"- {_escaped(note)}" for note in report.notes]
    if report.guard is not None:
        said.insert(0, f"- **{_escaped(report.guard.title)}.** {_escaped(report.guard.detail)}")
    return "\n".join(said)


def _markdown_sheet(sheet: Sheet) -> str:
    if not sheet.rows:
        return ""
    lines = [sheet.header, ["---"] * len(sheet.header)]
    lines += [[_escaped(cell) for cell in row] for row in sheet.rows]
    return "\n".join([f"## {sheet.title}", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _escaped(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(text.split()))
