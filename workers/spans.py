"""An attempt as traces have it: how long it waited, the attempt itself, the child and its stages.

What a killed worker did not tell is told by the next attempt, from the history: each claim is an entry there, and the
entry's number makes the id of its span, so that whoever comes later can name it, and end it.
"""

import time
from collections.abc import Sequence
from contextlib import suppress

from app.contracts.tasks import Progress
from app.errors import DependencyUnavailable, WorkerLost
from app.logging import printable
from app.resources import Resources, message
from app.stores import histories, work
from app.traces import NoSpan, Opening, Span, Value, derived, trace_id
from workers.figures import OTHER, stage_name

_PARTS = frozenset({"training", "packing", "measuring"})
_MOST_STAGES = 1_000  # of one child, whose word this is
_HEALTHY = frozenset({"ok", "cancelled", "drained"})  # ends of a child that are nobody's fault


def begin_attempt(resources: Resources, held: work.Claim) -> Span:
    """Tell what came before an attempt, and begin its span. Without a trace, or without an answer, there is none."""
    if held.trace is None:
        return NoSpan()
    with suppress(DependencyUnavailable), resources.database.reading() as tx:
        return _begin(resources, held, held.trace, histories.claims(tx, held.id))
    return NoSpan()


def _begin(resources: Resources, held: work.Claim, trace: str, claims: Sequence[histories.Claimed]) -> Span:
    if not claims:
        return NoSpan()
    *earlier, now = claims
    links: tuple[str, ...] = ()
    if earlier:
        before = earlier[-1]
        links = (f"00-{trace_id(trace)}-{_span_id(trace, held.id, before)}-{trace[-2:]}",)
        if before.lost_at is not None:
            lost = resources.traces.begin(_opening(held, trace, before))
            lost.fail(WorkerLost.slug)
            if before.heard_at is not None:
                _compute(lost, before.heard_at).end(before.lost_at)
            lost.end(before.lost_at)
    told = {"messaging.destination.name": held.queue.value, "modelpress.attempt": now.attempt}
    waiting = Opening(f"wait {held.queue.value}", trace, attributes=told, at_s=now.waited_since)
    resources.traces.begin(waiting).end(now.at)
    return resources.traces.begin(_opening(held, trace, now, links))


def _opening(held: work.Claim, trace: str, claim: histories.Claimed, links: tuple[str, ...] = ()) -> Opening:
    told: dict[str, Value] = {**message(held.queue, held.id, "process")}
    told |= {"modelpress.tenant.id": held.tenant, "modelpress.work.kind": held.kind.value}
    told |= {"modelpress.attempt": claim.attempt}
    span_id = _span_id(trace, held.id, claim)
    return Opening(f"process {held.queue.value}", trace, "consumer", told, claim.at, span_id, links)


def _span_id(trace: str, work_id: str, claim: histories.Claimed) -> str:
    return derived(trace_id(trace), work_id, claim.entry)


def _compute(attempt: Span, at_s: float | None = None) -> Span:
    """Begin the span of an attempt's child."""
    return attempt.begin("compute", at_s=at_s, span_id=derived(attempt.traceparent, "compute"))


class Stages:
    """The child's span and, by what it says, those of its stages and of their parts, one after the other."""

    def __init__(self, attempt: Span, kind: str) -> None:
        """Begin the child's span."""
        self._child = _compute(attempt)
        self._child.note({"modelpress.order": kind})
        self._traced = self._child.traceparent is not None
        self._stage, self._part, self._told = "", "", 0
        self._open: list[Span] = []  # the stage, and a part of it

    def hear(self, said: Progress) -> None:
        """Take in what the child says, again and again, of where it is. Its words are bounded in number and length."""
        if not self._traced or self._told >= _MOST_STAGES:
            return
        now_s = time.time()
        if said.stage != self._stage:
            self._leave(0, now_s)
            self._told += 1
            told = {"modelpress.stage": printable(said.stage, 100)}
            self._open = [self._child.begin(stage_name(said.stage), told, at_s=now_s)]
            self._stage, self._part = said.stage, ""
        part = "training" if said.point is not None else said.part
        if part is not None and part != self._part:
            self._leave(1, now_s)
            self._told += 1
            self._open.append(self._open[0].begin(part if part in _PARTS else OTHER, at_s=now_s))
            self._part = part

    def end(self, cause: str) -> None:
        """End all spans; `cause` is how the child ended."""
        now_s = time.time()
        self._leave(0, now_s)
        if cause not in _HEALTHY:
            self._child.fail(cause)
        self._child.end(now_s)

    def _leave(self, kept: int, now_s: float) -> None:
        while len(self._open) > kept:
            self._open.pop().end(now_s)
