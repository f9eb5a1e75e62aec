"""Holds the result against a guard; where it fails, finds out what the drop came from and what would repair it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.contracts.causes import ClassDrop, GuardCauses, Repair, StepDrop, TurnedRow
from app.contracts.job import Guard
from app.contracts.report import Quality, StepReport
from app.errors import GuardNotMet
from workers.compute.bench import Bench
from workers.compute.repairing import Restoration, gentler, restoring, training
from workers.compute.restoring import Trial, changed, cheapest, extra_bytes, restored, trial
from workers.compute.scoring import Judge, Scores
from workers.compute.stepping import Walked
from workers.compute.wording import shown

_MOST_CLASSES, _MOST_SAMPLES = 3, 5
_MATRIX = 2
# Looking for causes takes this share of the job's time, within these seconds.
_SHARE, _FEWEST_S, _MOST_S = 0.1, 2.0, 30.0


@dataclass(frozen=True)
class Refusal:
    """The error that the job ends with, and what its drop came from."""

    error: GuardNotMet
    causes: GuardCauses


def refusal(bench: Bench, guard: Guard | None, walked: Walked, started: float) -> Refusal | None:
    """Compare the guard's metric on validation rows before and after; `started` is the job's, monotonic seconds."""
    before, after = bench.baseline.quality, walked.last.report.measurement.quality
    if guard is None or before is None or after is None:
        return None
    old, new = before.scores[guard.metric], after.scores[guard.metric]
    drop = old.value - new.value
    if drop <= guard.max_drop:
        return None
    budget_s = min(_MOST_S, max(_FEWEST_S, _SHARE * (time.monotonic() - started)))
    causes = _causes(bench, guard, walked, time.monotonic() + budget_s)
    detail = (
        f"{guard.metric} fell by {drop:.4f} (from {old.value:.4f} to {new.value:.4f}) on {new.samples:,} validation "
        f"rows; the guard allows {guard.max_drop:.4f}."
    )
    return Refusal(GuardNotMet(" ".join([detail, *_summary(causes)])), causes)


def _causes(bench: Bench, guard: Guard, walked: Walked, end: float) -> GuardCauses:
    last, reports = walked.last, walked.reports
    before, after = bench.baseline.quality, last.report.measurement.quality
    steps = _steps(guard.metric, before, reports)
    found = GuardCauses(
        metric=guard.metric,
        before=steps[0].before,
        after=steps[-1].after,
        max_drop=guard.max_drop,
        steps=steps,
        classes=_classes(before, after),
    )
    tried = trial(bench, last, guard.metric, guard.max_drop, end)
    return found if tried is None else _with_trials(found, tried, reports)


def _with_trials(found: GuardCauses, tried: Trial, reports: Sequence[StepReport]) -> GuardCauses:
    source = tried.bench.source
    now = tried.scores()
    base, errors = tried.score(now), changed(source, tried.last)
    layers = restored(tried, errors, base)
    best, score = cheapest(tried, layers, len(errors), base)
    blamed = max(found.steps, key=lambda step: step.before - step.after)
    specs = [*tried.bench.order.recipe.steps]
    spec = specs[blamed.index] if specs else None
    repairs: list[Repair] = []
    if best:
        names = [layer.tensor for layer in best]
        adds = sum(extra_bytes(layer) for layer in best)
        there = Restoration(names, found.metric, score, adds, tried.meets(score), len(tried.rows))
        order = sorted(found.steps, key=lambda step: step.after - step.before)
        repairs.append(restoring(there, [specs[step.index] for step in order] if specs else [], source, errors))
    repairs += training(reports, blamed, spec)
    repairs.sort(key=lambda repair: (repair.meets is not True, repair.meets is False))
    return found.model_copy(
        update={
            "samples": _turned(tried, now),
            "rows": len(tried.rows),
            "layers": layers,
            "repairs": [*repairs, *gentler(blamed, spec)],
        }
    )


def _steps(metric: str, before: Quality | None, reports: Sequence[StepReport]) -> list[StepDrop]:
    drops, value = [], before.scores[metric].value if before else 0.0
    for step in reports:
        quality = step.measurement.quality
        after = quality.scores[metric].value if quality else value
        drops.append(StepDrop(index=step.index, technique=step.technique, before=value, after=after))
        value = after
    return drops


def _classes(before: Quality | None, after: Quality | None) -> list[ClassDrop]:
    """Return the classes that lost most recall, worst first."""
    if before is None or after is None:
        return []
    both = before.recall_per_class.keys() & after.recall_per_class.keys()
    found = [
        ClassDrop(name=name, before=before.recall_per_class[name].value, after=new.value, samples=new.samples)
        for name, new in after.recall_per_class.items()
        if name in both
    ]
    lost = sorted((drop for drop in found if drop.after < drop.before), key=lambda drop: drop.after - drop.before)
    return lost[:_MOST_CLASSES]


def _turned(tried: Trial, scores: Scores) -> list[TurnedRow]:
    """Return the first rows that were right and are not: by their labels, without them as the original says."""
    judge = tried.judge
    if not _decides(judge):
        return []
    before, now = judge.decided(judge.original), judge.decided(scores)
    same = (before == now).reshape(len(now), -1).all(axis=1)
    wrong = ~same if judge.labels is None else judge.right(before) & ~judge.right(now)
    places = tried.rows.places
    return [
        TurnedRow(
            row=int(place if places is None else places[place]),
            label=None if judge.labels is None else _answer(judge, judge.labels[place]),
            before=_answer(judge, before[place]),
            after=_answer(judge, now[place]),
        )
        for place in np.flatnonzero(wrong)[:_MOST_SAMPLES]
    ]


def _decides(judge: Judge) -> bool:
    """Whether a row's scores choose something that a person can be told."""
    if judge.task == "match":
        return judge.original.ndim == _MATRIX and judge.original.shape[1] > 1
    return judge.task != "regression"


def _answer(judge: Judge, decided: object) -> str:
    """Return a decision in the classes' names: one class, or the labels that are set."""
    values = np.asarray(decided)
    numbers = np.flatnonzero(values) if judge.task == "multilabel" else values.reshape(-1)
    names = (judge.classes[number] if number < len(judge.classes) else str(number) for number in numbers.astype(int))
    return ", ".join(shown(name) for name in names) or "none"


def _summary(causes: GuardCauses) -> list[str]:
    """Return the step to blame, where there are several, and the best repair."""
    blamed = max(causes.steps, key=lambda step: step.before - step.after)
    told = f"Most of it came with step {blamed.index + 1} ({blamed.technique}): {blamed.before - blamed.after:.4f}."
    return [*([told] if len(causes.steps) > 1 else []), *[repair.advice for repair in causes.repairs[:1]]]
