"""The step from a fetch to its check: only by who holds the work, and only once."""

from dataclasses import replace

import pytest

from app.contracts.base import new_id
from app.contracts.job import JobState
from app.contracts.source import HttpsSource
from app.contracts.tasks import Queue, WorkKind
from app.errors import NotFound, PoisonQuarantined, SourceRefused
from app.problems import problem_of
from app.stores import fetches, records, work
from app.stores.database import Database
from app.stores.sinks import Stored
from app.stores.tables import models

CAME = Stored("a" * 64, 7)
SOURCE = HttpsSource.model_validate({"type": "https", "url": "https://example.com/m.onnx?signature=x"})


@pytest.fixture
def held(database: Database) -> work.Claim:
    model_id = new_id("mdl")
    with database.transaction() as tx:
        document = {"name": "m", "format": "onnx", "tags": {}, "size_bytes": 0, "origin": {"type": "https"}}
        records.add(tx, models, "tenant", model_id, {"document": document, "sha256": ""})
        work.enqueue(tx, work.Ticket(model_id, "tenant", WorkKind.FETCH, Queue.EGRESS, 60))
        fetches.begin(tx, model_id, SOURCE)
        found = work.claim(tx, model_id, "worker", 30.0, 3)
    assert found is not None
    return found


def noted(database: Database, held: work.Claim) -> bool:
    with database.reading() as tx:
        try:
            return bool(fetches.source_of(tx, held.id))
        except NotFound:
            return False


def test_the_holder_hands_on_once(database: Database, held: work.Claim) -> None:
    with database.transaction() as tx:
        bell = fetches.hand_on(tx, held, CAME, {"version": "3"}, 90)
        assert fetches.hand_on(tx, held, CAME, {}, 90) is None
        row, model = work.read(tx, held.id), records.get(tx, models, "tenant", held.id)
    assert bell == work.Bell(held.id, WorkKind.CHECK_MODEL, Queue.CHECKS)
    assert row is not None
    assert (row.state, row.kind, row.queue, row.max_run_s, row.fence) == ("queued", "check_model", "checks", 90, None)
    assert (model["sha256"], model["document"]["size_bytes"]) == CAME
    assert model["document"]["origin"] == {"type": "https", "version": "3"}
    assert not noted(database, held)


def test_who_lost_the_work_hands_nothing_on(database: Database, held: work.Claim) -> None:
    with database.transaction() as tx:
        assert fetches.hand_on(tx, replace(held, fence="another"), CAME, {}, 90) is None
    with database.reading() as tx:
        assert records.get(tx, models, "tenant", held.id)["sha256"] == ""
    assert noted(database, held)


def test_what_is_being_cancelled_is_not_handed_on(database: Database, held: work.Claim) -> None:
    with database.transaction() as tx:
        work.request_cancel(tx, held.id)
        assert fetches.hand_on(tx, held, CAME, {}, 90) is None


@pytest.mark.parametrize(("error", "stays"), [(SourceRefused(), False), (PoisonQuarantined(), True)])
def test_the_source_is_forgotten_unless_the_fetch_may_be_put_back(
    database: Database, held: work.Claim, error: SourceRefused | PoisonQuarantined, stays: bool
) -> None:
    with database.transaction() as tx:
        assert work.finish(tx, held, JobState.FAILED, problem_of(error))
    assert noted(database, held) is stays


def test_the_source_goes_with_its_work(database: Database, held: work.Claim) -> None:
    with database.transaction() as tx:
        records.remove(tx, models, held.id)
    assert not noted(database, held)
