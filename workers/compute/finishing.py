"""The end of a job: test rows once, the final race, the published files and the report."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from app.contracts.causes import GuardCauses
from app.contracts.report import LayerDamage, Measurement, Quality, Report
from app.errors import ServiceFault
from app.problems import problem_of
from workers.compute import bundles, report
from workers.compute.attribution import attributed
from workers.compute.bench import Bench
from workers.compute.controls import Control, Scored, compare
from workers.compute.environment import environment
from workers.compute.evaluation import predict
from workers.compute.feeds import feeds_for
from workers.compute.files import sha256_of
from workers.compute.ground import Ground
from workers.compute.guarding import Refusal
from workers.compute.measuring import Races, quieter, sized
from workers.compute.memory import loading
from workers.compute.profiling import Profile, Subject, profile_with_graph
from workers.compute.reasons import Facts, notes
from workers.compute.runtime import open_session, translated
from workers.compute.sensitivity import sensitivity
from workers.compute.stepping import Taken, Walked
from workers.compute.tracing import fallback

_RACE_S = 1.0  # per batch size, twice
_COMPARED_ROWS = 256
_LOOKING_SHARE, _LEAST_LOOKING_S, _LOOKING_S = 0.03, 0.5, 20.0  # of the job's time, for what its tensors bear


@dataclass(frozen=True)
class Finished:
    """A recipe that ran through, its controls, why others failed, and when the job began (monotonic seconds).

    `refused` is the guard's refusal: then it is not asked about test rows and the figures are those of validation.
    `causes` tell of a drop larger than a guard, or than the goal that this is a candidate for.
    """

    walked: Walked
    controls: list[Control]
    failures: list[str]
    started: float
    refused: Refusal | None
    causes: GuardCauses | None = None


def finish(bench: Bench, done: Finished) -> Report:
    """Measure the packed file against the upload in fresh sessions, publish both variants, return the report."""
    last, steps = done.walked.last, done.walked.reports
    same_rows = _check_packed(bench, last)
    out = bench.scratch / "out"
    bundles.pack(last.file, out / "packed.onnx")
    bundles.pack(last.dense, out / "dense.onnx")
    bench.route.tell(0.3, None)
    early = bench.races(last.file, _RACE_S)
    scored = _scored(bench, last, use_test=done.refused is None)
    before, after = _measure(bench, last, scored, early)
    changes = report.changes(before, after, scored.judge.differences(scored.scores) if scored else {})
    profile = _profiled(bench, last, after.latency[0].batch_size)
    facts = Facts(
        changes=changes,
        after=after,
        steps=steps,
        tensors=last.packed.tensors,
        operators=Counter(node.op_type for node in last.model.graph),
        place=environment(bench.order.threads, bench.device),
        profile=profile.operators,
        fallback=fallback(profile),
    )
    return Report(
        verdict=report.verdict(changes, after),
        before=before,
        after=after,
        changes=changes,
        steps=steps,
        controls=compare(bench, done.controls, scored),
        tensors=attributed(last.packed, bench.source, last.model, profile),
        sensitivity=_sensitivity(bench, done.started),
        notes=[*notes(facts), *_findings(bench, done, same_rows)],
        guard=problem_of(done.refused.error) if done.refused else None,
        guard_causes=done.causes,
        seed=bench.order.seed,
        digests=_digests(bench),
        environment=facts.place,
        duration_s=time.monotonic() - done.started,
    )


def _sensitivity(bench: Bench, started: float) -> list[LayerDamage]:
    """Return what the original's tensors bear; a candidate's search has looked already."""
    if bench.dataset is None or bench.is_candidate:
        return []
    limit_s = min(_LOOKING_S, max(_LEAST_LOOKING_S, _LOOKING_SHARE * (time.monotonic() - started)))
    return sensitivity(bench, bench.dataset, lambda _share, _point: None, limit_s)


def _check_packed(bench: Bench, last: Taken) -> int:
    """Compare the packed file with the dense one, both in ONNX Runtime; return the number of rows compared."""
    sessions = [open_session(path, bench.original.options) for path in (last.dense, last.file)]
    rows = bench.dataset.validation.take(slice(0, _COMPARED_ROWS)) if bench.dataset else None
    if rows is not None:
        dense, packed = (predict(session, rows) for session in sessions)
    else:
        feeds = feeds_for(bench.original.signature, 1, None, bench.order.seed)
        name = bench.original.signature.scores.name
        with translated("run"):
            dense, packed = (
                np.concatenate([np.asarray(session.run([name], feed)[0]) for feed in feeds]) for session in sessions
            )
    if not np.array_equal(dense, packed):
        raise ServiceFault("The packed file does not give the dense file's outputs.")
    return len(dense)


def _measure(bench: Bench, last: Taken, scored: Scored | None, early: Races) -> tuple[Measurement, Measurement]:
    """Return what the upload and the result are like; without data their quality is unknown.

    They are raced again, a while after `early`, and the quieter race of the two counts.
    """
    loads = [loading(path, bench.original.options) for path in (bench.original.path, last.file)]
    bench.route.tell(0.7, None)
    ours, theirs = quieter(early, bench.races(last.file, _RACE_S))
    bench.route.tell(0.8, None)
    qualities: tuple[Quality | None, Quality | None] = (None, None)
    if scored is not None:
        qualities = (scored.judge.quality(scored.judge.original), scored.judge.quality(scored.scores))
    measured = []
    for base, (load_ms, resident), latency, quality in (
        (bench.baseline, loads[0], theirs, qualities[0]),
        (sized(last.model, last.file, bench.sizes), loads[1], ours, qualities[1]),
    ):
        found = {"latency": latency, "quality": quality, "load_ms": load_ms, "resident_bytes": resident}
        measured.append(base.model_copy(update=found))
    return measured[0], measured[1]


def _scored(bench: Bench, last: Taken, *, use_test: bool) -> Scored | None:
    """Return the result's scores and their judge; None without data."""
    if bench.ground is None or bench.judge is None:
        return None
    rows, judge = bench.ground.dataset.validation, bench.judge
    if use_test:
        rows, judge = bench.ground.dataset.test, bench.ground.test_judge()
    return Scored(judge, rows, predict(open_session(last.file, bench.original.options), rows))


def _profiled(bench: Bench, last: Taken, batch_size: int) -> Profile:
    """Look where a call's time goes in the published file."""
    rows = bench.dataset.validation if bench.dataset else None
    subject = Subject(last.file, bench.original.options, batch_size, rows, bench.order.seed)
    return profile_with_graph(subject, bench.scratch)


def _findings(bench: Bench, done: Finished, same_rows: int) -> list[str]:
    found = [f"The packed file gives exactly the dense file's outputs on {same_rows:,} rows."]
    if bench.original.signature.fixed_batch:
        found.append(f"The model fixes its batch size at {bench.original.signature.fixed_batch}; only that was timed.")
    if done.refused is not None and bench.order.recipe.controls:
        found.append("The controls were not run: the guard was not met.")
    return [*found, *done.failures, *_split(bench.ground, refused=done.refused is not None)]


def _split(ground: Ground | None, *, refused: bool) -> Iterator[str]:
    if ground is None:
        yield "No data set was given: quality was not measured."
        return
    if ground.finding:
        yield ground.finding
    seen = f"{len(ground.dataset.validation):,} validation rows"
    if refused:
        yield f"All quality figures speak of {seen}: the guard was not met there, so the test rows were not tried."
    else:
        yield (
            f"Before and after are judged on {len(ground.dataset.test):,} test rows, which no step has seen; "
            f"steps and guard on {seen}."
        )


def _digests(bench: Bench) -> dict[str, str]:
    out = bench.scratch / "out"
    digests = {"model": bench.order.model.sha256}
    if bench.order.dataset is not None:
        digests["dataset"] = bench.order.dataset.sha256
    return digests | {name: sha256_of(out / f"{name}.onnx") for name in ("packed", "dense")}
