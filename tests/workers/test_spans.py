"""What an attempt tells of itself and of the one before, by the history; and what a child's words become."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from app.contracts.base import new_id
from app.contracts.report import CurvePoint
from app.contracts.tasks import Progress, Queue, WorkKind
from app.otlp import Otlp
from app.resources import Resources
from app.settings import Settings
from app.stores import histories, work
from app.traces import NoSpan, Opening
from tests.stand_in.collector import Collector, Got
from workers.spans import Stages, begin_attempt

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True)
class Sending:
    collector: Collector
    traces: Otlp

    def sent(self) -> list[Got]:
        """Return all spans by their beginning; no more can be sent."""
        self.traces.close()
        return sorted(self.collector.spans, key=lambda span: span.start)


@pytest.fixture
def sending() -> Iterator[Sending]:
    with Collector() as collector:
        yield Sending(collector, Otlp(Settings(traces_url=collector.url), "modelpress-worker"))


@pytest.fixture
def traced(resources: Resources, sending: Sending) -> Resources:
    return replace(resources, traces=sending.traces)


def queued(resources: Resources, trace: str | None = GIVEN) -> str:
    work_id = new_id("job")
    with resources.database.transaction() as tx:
        work.enqueue(tx, work.Ticket(work_id, "tenant", WorkKind.COMPRESS, Queue.CPU, 60, trace=trace))
    return work_id


def claimed(resources: Resources, work_id: str) -> work.Claim:
    with resources.database.transaction() as tx:
        held = work.claim(tx, work_id, "worker", 30.0, 3)
    assert held is not None
    return held


def given_back(resources: Resources, held: work.Claim, *, lost: bool) -> None:
    with resources.database.transaction() as tx:
        assert work.release(tx, held, lost=lost) is not None


def test_attempt_begins_when_it_was_claimed_after_a_wait(traced: Resources, sending: Sending) -> None:
    work_id = queued(traced)

    begin_attempt(traced, claimed(traced, work_id)).end()

    waited, attempt = sending.sent()
    assert (waited.name, attempt.name) == ("wait cpu", "process cpu")
    assert waited.start < waited.end == attempt.start
    assert attempt.attributes["messaging.message.id"] == work_id


@pytest.mark.parametrize("lost", [True, False])
def test_next_attempt_tells_of_a_lost_one_and_links_to_every_one(
    traced: Resources, sending: Sending, lost: bool
) -> None:
    work_id = queued(traced)
    first = claimed(traced, work_id)
    begun = begin_attempt(traced, first)  # never ended, as when its worker is killed
    given_back(traced, first, lost=lost)

    begin_attempt(traced, claimed(traced, work_id)).end()

    attempts = [span for span in sending.sent() if span.name == "process cpu"]
    assert begun.traceparent is not None
    assert attempts[-1].links == [begun.traceparent.split("-")[2]]
    assert [(span.id, span.failed) for span in attempts[:-1]] == ([(attempts[-1].links[0], True)] if lost else [])


def test_work_without_a_trace_has_no_span_of_an_attempt(traced: Resources) -> None:
    assert isinstance(begin_attempt(traced, claimed(traced, queued(traced, None))), NoSpan)


def test_history_tells_of_each_claim(resources: Resources) -> None:
    work_id = queued(resources)
    for lost in (False, True):
        given_back(resources, claimed(resources, work_id), lost=lost)
    claimed(resources, work_id)
    with resources.database.reading() as tx:
        found = histories.claims(tx, work_id)

    assert [(one.entry, one.attempt, one.lost_at is not None) for one in found] == [
        (2, 1, False),
        (4, 2, True),
        (6, 3, False),
    ]
    assert all(one.waited_since <= one.at for one in found)


def test_childs_words_become_stages_and_their_parts(sending: Sending) -> None:
    attempt = sending.traces.begin(Opening("attempt", GIVEN))
    stages, point = Stages(attempt, "compress"), CurvePoint(step=1, epoch=0.1, loss=2.0)

    for said in (
        Progress(stage="reading", progress=0.0),
        Progress(stage="1/2 distill", progress=0.1),
        Progress(stage="1/2 distill", progress=0.1, point=point),
        Progress(stage="1/2 distill", progress=0.2),
        Progress(stage="1/2 distill", progress=0.3, part="packing"),
        Progress(stage="1/2 distill", progress=0.4, part="measuring"),
        Progress(stage="x" * 500, progress=0.5, part="y" * 500),
    ):
        stages.hear(said)
    stages.end("SIGSEGV")

    spans = {span.id: span for span in sending.sent()}
    compute = next(span for span in spans.values() if span.name == "compute")
    tree = [(spans[span.parent].name, span.name) for span in spans.values() if span.parent in spans]
    assert sorted(tree) == [
        ("compute", "distill"),
        ("compute", "other"),
        ("compute", "reading"),
        ("distill", "measuring"),
        ("distill", "packing"),
        ("distill", "training"),
        ("other", "other"),
    ]
    assert (compute.attributes["error.type"], compute.failed) == ("SIGSEGV", True)
    assert max(len(str(value)) for span in spans.values() for value in span.attributes.values()) == 100


def test_child_that_floods_makes_few_spans(sending: Sending) -> None:
    stages = Stages(sending.traces.begin(Opening("attempt", GIVEN)), "compress")

    for number in range(5_000):
        stages.hear(Progress(stage=f"{number}", progress=0.0))
    stages.end("ok")

    assert len(sending.sent()) == 1_001
