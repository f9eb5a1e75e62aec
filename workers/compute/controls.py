"""The controls of a recipe: its steps again from the upload, less their training or their teacher, for comparison."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.contracts.recipe import ControlKind
from app.contracts.report import ControlReport, StepReport
from app.errors import TechniqueNotApplicable
from workers.compute import bundles
from workers.compute.bench import Bench
from workers.compute.checkpoints import Reached
from workers.compute.courses import Course, control_courses
from workers.compute.datasets.samples import Samples
from workers.compute.measuring import judged
from workers.compute.runtime import open_session
from workers.compute.scoring import Judge, Scores
from workers.compute.stepping import walk


@dataclass(frozen=True)
class Control:
    """A control that ran through: its packed file, in the scratch, and what its steps say."""

    kind: ControlKind
    file: Path
    steps: list[StepReport]
    duration_s: float


@dataclass(frozen=True)
class Scored:
    """The result's scores on the rows of the report, and their judge."""

    judge: Judge
    rows: Samples
    scores: Scores


def run_controls(bench: Bench, upload: Path) -> tuple[list[Control], list[str]]:
    """Run every control that the recipe asks for; return those that ran, and why the others did not.

    `upload` is the upload's dense file. A control that cannot be trained, say because it diverges, is a finding and
    costs nobody the result.
    """
    ran: list[Control] = []
    failures: list[str] = []
    checkpoints = bench.checkpoints
    for kind, course in control_courses(bench.order.recipe).items():
        if course.name not in checkpoints.failures:
            try:
                ran.append(_run(bench, course, kind, upload))
            except TechniqueNotApplicable as error:
                checkpoints.fail(course, f"The {course.title}could not be run: {error.detail}")
        if course.name in checkpoints.failures:
            failures.append(checkpoints.failures[course.name])
    return ran, failures


def _run(bench: Bench, course: Course, kind: ControlKind, upload: Path) -> Control:
    """Run a control, unless an earlier process did."""
    before = bench.checkpoints.reached(course)
    if before is not None and before.over:
        bench.route.skip(len(course.steps))
        return Control(kind, before.file, list(before.reports), before.spent_s)
    started = bench.checkpoints.began(course.name)
    walked = walk(bench, course, upload)
    shutil.rmtree(walked.last.dense.parent)
    spent_s = time.monotonic() - started
    bench.checkpoints.leave(course, Reached(walked.reports, walked.last.file, {}, over=True, spent_s=spent_s))
    return Control(kind, walked.last.file, walked.reports, spent_s)


def compare(bench: Bench, controls: Sequence[Control], result: Scored | None) -> list[ControlReport]:
    """Measure controls on the rows that the result was measured on, and pair the two by row; none without data."""
    return [_compared(bench, control, result) for control in controls] if result is not None else []


def _compared(bench: Bench, control: Control, result: Scored) -> ControlReport:
    session = open_session(control.file, bench.original.options)
    quality, scores = judged(session, result.rows, result.judge)
    return ControlReport(
        kind=control.kind,
        steps=control.steps,
        file_bytes=bundles.size_bytes(control.file),
        quality=quality,
        differences=dict(result.judge.differences(result.scores, against=scores)),
        duration_s=control.duration_s,
    )
