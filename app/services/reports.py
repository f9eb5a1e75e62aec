"""A job's report as tables: read here, rendered as a Markdown model card or as one HTML page.

Names inside a report come from strangers' models: Markdown cells are escaped here, HTML by the template.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.contracts.causes import GuardCauses
from app.contracts.job import Job
from app.contracts.recipe import Recipe
from app.contracts.report import Change, Estimate, Latency, Quality, Report, StepReport, TensorReport
from app.errors import Conflict, NotFound
from app.services import causes
from app.services.caller import Caller
from app.services.jobs import job_of
from app.services.search_plots import HEIGHT, WIDTH, plots
from app.services.search_sheets import recommended_recipe, search_sheet
from app.services.sensitivity_sheet import sensitivity_sheet
from app.services.sheets import Sheet, bytes_shown, interval, shown, times
from app.stores import records
from app.stores.tables import jobs

_TEMPLATES = Path(__file__).parent.parent / "web" / "templates"
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")
_RETRY_AFTER_S = 5
_MOST_CLASSES = 20  # in the table; the JSON report has them all


@dataclass(frozen=True)
class Story:
    """A report with the job that it belongs to."""

    job: Job
    report: Report

    @property
    def recipe(self) -> Recipe | None:
        """The job's recipe; for a goal the one that is recommended, null where nothing meets it."""
        return self.job.recipe or recommended_recipe(self.report.search)


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
    why = "; its `error` says why" if job.error is not None else ""
    raise NotFound(f"The job ended as {job.state} without a report{why}.")


def markdown(story: Story) -> str:
    """Return the report as a model card in Markdown with a YAML head."""
    report = story.report
    parts = [_front_matter(story), f"# {_escaped(report.verdict)}", _why(report), _notes(report)]
    parts += [_markdown_sheet(sheet) for sheet in sheets(story)]
    return "\n\n".join(part for part in parts if part) + "\n"


def html(story: Story) -> str:
    """Return the report as one HTML page that needs no script and no other file."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    template = environment.get_template("report.html")
    drawn = plots(story.report.search) if story.report.search else []
    return template.render(report=story.report, sheets=sheets(story), plots=drawn, width=WIDTH, height=HEIGHT)


def sheets(story: Story) -> list[Sheet]:
    """Return the report's tables: what was found, before and after, quality, latency, steps, layers, its making."""
    report = story.report
    rows = _rows(report.after.quality)
    return [
        *([search_sheet(report.search)] if report.search else []),
        *(_cause_sheets(report.guard_causes, "guard" if report.guard else "goal") if report.guard_causes else []),
        Sheet(
            "Before and after",
            ["figure", "before", "after", "change", "ratio", "verdict"],
            [_change_row(change, rows) for change in report.changes],
        ),
        Sheet(f"Beside its controls, on {rows}", _control_header(report), _control_rows(report)),
        Sheet(f"Quality on {rows}", ["figure", "before", "after", "n"], _quality_rows(report)),
        Sheet(
            "Latency",
            [
                *("batch", "threads", "calls", "disturbed", "before p50", "p95", "p99", "after p50", "p95", "p99"),
                *("rows/s", "faster"),
            ],
            _latency_rows(report),
        ),
        Sheet(
            "Steps",
            ["step", "technique", "file size", "score", "seconds", "changed", "notes"],
            [_step_row(step) for step in report.steps],
        ),
        Sheet(
            "Layers",
            [
                *("tensor", "operator", "shape", "non-zero", "values", "encoding", "bits/weight", "SNR", "cosine"),
                *("time", "bytes before", "after"),
            ],
            [_tensor_row(tensor) for tensor in report.tensors],
        ),
        sensitivity_sheet(report.sensitivity),
        Sheet("How it was made", ["what", "value"], _origin_rows(story)),
    ]


def _cause_sheets(found: GuardCauses, bound: str) -> list[Sheet]:
    return [
        Sheet(f"How to meet the {bound}", ["repair"], [[way.advice] for way in found.repairs]),
        Sheet("What the drop came from", causes.DROP_HEADER, causes.drop_rows(found)),
        Sheet("Validation rows that turned wrong", causes.ROW_HEADER, causes.turned_rows(found)),
        Sheet(f"Layers put back, on {found.rows:,} validation rows", causes.LAYER_HEADER, causes.layer_rows(found)),
    ]


def _rows(quality: Quality | None) -> str:
    return f"{quality.split} rows" if quality else "rows"


def _change_row(change: Change, rows: str) -> list[str]:
    return [
        change.figure,
        shown(change.figure, change.before),
        shown(change.figure, change.after),
        interval(change.figure, change.difference, rows),
        _faster(change.ratio_interval) if change.ratio_interval else times(change.ratio),
        change.verdict,
    ]


def _faster(ratio: Estimate | None) -> str:
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio is not None else ""


def _quality_rows(report: Report) -> list[list[str]]:
    """Return every score, and the recall of the classes that lost most, each with its 95 % interval."""
    before, after = report.before.quality, report.after.quality
    if after is None:
        return []
    old, old_recalls = (before.scores, before.recall_per_class) if before else ({}, {})
    recalls = sorted(
        after.recall_per_class.items(),
        key=lambda item: item[1].value - (old_recalls[item[0]].value if item[0] in old_recalls else 0.0),
    )
    return [
        *[_score_row(name, name, old.get(name), new) for name, new in after.scores.items()],
        *[_score_row(f"recall of {name}", "accuracy", old_recalls.get(name), new) for name, new in recalls][
            :_MOST_CLASSES
        ],
    ]


def _control_header(report: Report) -> list[str]:
    return ["figure", "the original", "this result", *(control.kind.replace("_", " ") for control in report.controls)]


def _control_rows(report: Report) -> list[list[str]]:
    """Return size and scores side by side, below each score by how much this result's is higher."""
    before, after, controls = report.before.quality, report.after.quality, report.controls
    if after is None or not controls:
        return []
    rows = [["file_bytes", *map(bytes_shown, (report.before.file_bytes, report.after.file_bytes))]]
    rows[0] += [bytes_shown(control.file_bytes) for control in controls]
    for name in after.scores:
        columns = [before.scores.get(name) if before else None, after.scores[name]]
        columns += [control.quality.scores.get(name) for control in controls]
        rows.append([name, *(_estimated(name, column) for column in columns)])
        if any(name in control.differences for control in controls):
            paired = [interval(name, control.differences.get(name), _rows(after)) for control in controls]
            rows.append([f"{name}: this result minus the control's", "", "", *paired])
    return rows


def _score_row(title: str, figure: str, old: Estimate | None, new: Estimate) -> list[str]:
    return [title, _estimated(figure, old), _estimated(figure, new), f"{new.samples:,}"]


def _estimated(figure: str, estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    value, low, high = (shown(figure, part) for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _latency_rows(report: Report) -> list[list[str]]:
    old = {(timing.batch_size, timing.threads): timing for timing in report.before.latency}
    return [
        [
            *(str(new.batch_size), str(new.threads), str(new.calls), f"{new.disturbed:.0%}"),
            *_percentiles(old.get((new.batch_size, new.threads))),
            *_percentiles(new),
            shown("throughput", round(new.throughput_per_s)),
            _faster(new.ratio),
        ]
        for new in report.after.latency
    ]


def _percentiles(timing: Latency | None) -> list[str]:
    if timing is None:
        return ["", "", ""]
    return [shown("p50_ms", value) for value in (timing.p50_ms, timing.p95_ms, timing.p99_ms)]


def _step_row(step: StepReport) -> list[str]:
    return [
        str(step.index + 1),
        step.technique,
        bytes_shown(step.measurement.file_bytes),
        _step_score(step.measurement.quality),
        f"{step.duration_s:.1f}",
        "yes" if step.changed else "no",
        " ".join(step.notes),
    ]


def _step_score(quality: Quality | None) -> str:
    scores = quality.scores if quality else {}
    first = next((name for name in ("accuracy", "r2", "agreement") if name in scores), None)
    if quality is None or first is None:
        return ""
    return f"{first} {shown(first, scores[first].value)} on {quality.samples:,} {_rows(quality)}"


def _tensor_row(tensor: TensorReport) -> list[str]:
    return [
        tensor.name,
        tensor.operator,
        "×".join(map(str, tensor.shape)),
        f"{tensor.nonzeros / max(tensor.parameters, 1):.0%}",
        f"{tensor.unique_values:,}",
        tensor.encoding,
        f"{tensor.bits_per_weight:.2f}",
        f"{tensor.snr_db:.0f} dB" if tensor.snr_db is not None else "",
        f"{tensor.cosine:.4f}" if tensor.cosine is not None else "",
        f"{tensor.latency_share:.1%}" if tensor.latency_share is not None else "",
        bytes_shown(tensor.dense_bytes),
        bytes_shown(tensor.packed_bytes),
    ]


def _origin_rows(story: Story) -> list[list[str]]:
    report, job, recipe = story.report, story.job, story.recipe
    environment = report.environment
    return [
        ["job", job.id],
        ["model", job.model],
        ["data set", job.dataset or "none"],
        *([["goal", json.dumps(job.goal.model_dump(mode="json", exclude_none=True))]] if job.goal else []),
        *([["candidate of", job.parent]] if job.parent else []),
        ["recipe", json.dumps(recipe.model_dump(mode="json", exclude_none=True)) if recipe else "none meets the goal"],
        ["seed", str(report.seed)],
        *[[f"sha256 of {name}", digest] for name, digest in report.digests.items()],
        ["processor", f"{environment.cpu} ({' '.join(environment.cpu_flags)})"],
        ["threads", str(environment.threads)],
        ["device", environment.device],
        ["versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items())],
        ["duration", f"{report.duration_s:.0f} s"],
    ]


def _front_matter(story: Story) -> str:
    steps = story.recipe.steps if story.recipe else []
    head = {
        "library_name": "onnxruntime",
        "base_model": story.job.model,
        "base_model_relation": "quantized",
        "datasets": [story.job.dataset] if story.job.dataset else [],
        "tags": ["onnx", "compressed", *dict.fromkeys(step.technique for step in steps)],
    }
    # JSON values are YAML values.
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in head.items()), "---"])


def _why(report: Report) -> str:
    search = report.search
    if search is None:
        return ""
    missed = "" if search.recommended else "**The goal is not met.** What follows tells of what comes closest.\n\n"
    return f"{missed}**{_escaped(search.why)}**"


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
