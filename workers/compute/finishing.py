"""The end of a job: test rows once, the final race, the published files and the report."""

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from app.contracts.problem import Problem
from app.contracts.report import Estimate, Measurement, Quality, Report, StepReport, TensorReport
from app.errors import ServiceFault
from workers.compute import bundles, report
from workers.compute.bench import Bench
from workers.compute.benchmarking import profile
from workers.compute.datasets.samples import Dataset
from workers.compute.environment import environment
from workers.compute.evaluation import predict
from workers.compute.feeds import feeds_for
from workers.compute.files import sha256_of
from workers.compute.graph.model import Model
from workers.compute.measuring import sized
from workers.compute.memory import loading
from workers.compute.reasons import Facts, notes
from workers.compute.runtime import open_session, translated
from workers.compute.scoring import Judge
from workers.compute.stepping import Taken

_RACE_S = 2.0  # per batch size
_COMPARED_ROWS = 256
_MOST_SNR_DB = 200.0  # beyond the precision of float64, where the noise is zero


@dataclass(frozen=True)
class Finished:
    """A recipe that ran through: the last step, the reports of all, and when the job began (monotonic seconds).

    `refused` is the guard's problem: then the test rows stay untouched and the figures are those of validation.
    """

    last: Taken
    steps: list[StepReport]
    started: float
    refused: Problem | None


def finish(bench: Bench, done: Finished) -> Report:
    """Measure the packed file against the upload in fresh sessions, publish both variants, return the report."""
    last = done.last
    same_rows = _check_packed(bench, last)
    out = bench.scratch / "out"
    bundles.pack(last.file, out / "packed.onnx")
    bundles.pack(last.dense, out / "dense.onnx")
    bench.route.tell(0.3, None)
    before, after, differences = _measure(bench, last, use_test=done.refused is None)
    changes = report.changes(before, after, differences)
    facts = Facts(
        changes=changes,
        after=after,
        steps=done.steps,
        tensors=last.packed.tensors,
        operators=Counter(node.op_type for node in last.model.graph),
        place=environment(bench.order.threads, bench.device),
    )
    return Report(
        verdict=report.verdict(changes, after),
        before=before,
        after=after,
        changes=changes,
        steps=done.steps,
        tensors=[_with_snr(tensor, bench.source, last.model) for tensor in last.packed.tensors],
        notes=[*notes(_profiled(bench, last, facts)), *_findings(bench, done, same_rows)],
        guard=done.refused,
        seed=bench.order.seed,
        digests=_digests(bench),
        environment=facts.place,
        duration_s=time.monotonic() - done.started,
    )


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


def _measure(bench: Bench, last: Taken, *, use_test: bool) -> tuple[Measurement, Measurement, Mapping[str, Estimate]]:
    session = open_session(last.file, bench.original.options)
    rows = bench.dataset.validation if bench.dataset else None
    ours, theirs = bench.original.races(session, rows, _RACE_S, bench.order.seed)
    judge = _test_judge(bench) if use_test else bench.judge
    qualities: tuple[Quality | None, Quality | None] = (None, None)
    differences: Mapping[str, Estimate] = {}
    if judge is not None and bench.dataset is not None:
        scores = predict(session, bench.dataset.test if use_test else bench.dataset.validation)
        qualities = (judge.quality(judge.original), judge.quality(scores))
        differences = judge.differences(scores)
    del session
    bench.route.tell(0.8, None)
    measured = []
    for base, path, latency, quality in (
        (bench.baseline, bench.original.path, theirs, qualities[0]),
        (sized(last.model, last.file, bench.sizes), last.file, ours, qualities[1]),
    ):
        load_ms, resident = loading(path, bench.original.options)
        found = {"latency": latency, "quality": quality, "load_ms": load_ms, "resident_bytes": resident}
        measured.append(base.model_copy(update=found))
    return measured[0], measured[1], differences


def _test_judge(bench: Bench) -> Judge | None:
    if bench.dataset is None or bench.judge is None:
        return None
    rows = bench.dataset.test
    return replace(bench.judge, split="test", labels=rows.labels, original=predict(bench.original.session, rows))


def _with_snr(tensor: TensorReport, source: Model, final: Model) -> TensorReport:
    if tensor.name not in source.graph.initializers or tensor.name not in final.graph.initializers:
        return tensor
    old, new = source.read(tensor.name), final.read(tensor.name)
    if old.shape != new.shape or old.dtype.kind != "f" or new.dtype.kind != "f":
        return tensor
    exact = old.astype(np.float64)
    noise, signal = float(np.square(new.astype(np.float64) - exact).sum()), float(np.square(exact).sum())
    if not signal:
        return tensor
    level = _MOST_SNR_DB if not noise else min(_MOST_SNR_DB, 10 * math.log10(signal / noise))
    return tensor.model_copy(update={"snr_db": level})


def _profiled(bench: Bench, last: Taken, facts: Facts) -> Facts:
    """Look where a call's time goes, if there is something to explain."""
    if facts.faster or not facts.integer or not facts.speeds:
        return facts
    size = facts.after.latency[0].batch_size
    return replace(facts, profile=profile(last.file, bench.original.options, bench.scratch, size))


def _findings(bench: Bench, done: Finished, same_rows: int) -> list[str]:
    found = [f"The packed file gives exactly the dense file's outputs on {same_rows:,} rows."]
    if bench.original.signature.fixed_batch:
        found.append(f"The model fixes its batch size at {bench.original.signature.fixed_batch}; only that was timed.")
    return [*found, _split(bench.dataset, refused=done.refused is not None)]


def _split(dataset: Dataset | None, *, refused: bool) -> str:
    if dataset is None:
        return "No data set was given: quality was not measured."
    seen = f"{len(dataset.validation):,} validation rows"
    if refused:
        return f"All quality figures speak of {seen}: the guard was not met there, so the test rows stay untouched."
    return (
        f"Before and after are judged on {len(dataset.test):,} test rows, which no step has seen; "
        f"steps and guard on {seen}."
    )


def _digests(bench: Bench) -> dict[str, str]:
    out = bench.scratch / "out"
    digests = {"model": bench.order.model.sha256}
    if bench.order.dataset is not None:
        digests["dataset"] = bench.order.dataset.sha256
    return digests | {name: sha256_of(out / f"{name}.onnx") for name in ("packed", "dense")}
