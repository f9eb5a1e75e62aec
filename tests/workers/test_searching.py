"""A search from its doorbell to its end with real children and stores, and a planner that plans by names."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.contracts.job import Guard, JobCreate
from app.contracts.report import Report
from app.contracts.search import Search
from app.contracts.tasks import CompressOrder, Queue, WorkKind
from app.resources import Resources
from app.stores import records, searches, work
from app.stores.blobs import address
from app.stores.tables import artifacts, datasets, jobs
from app.stores.tables import searches as searches_table
from app.stores.tables import work as work_table
from tests.stand_in import planner, stack
from workers.child import Program
from workers.kinds import compress
from workers.planning import conclusion, rounds
from workers.supervisor import Rules
from workers.sweeper import sweep_once
from workers.tasks import Worker, perform


@pytest.fixture(autouse=True)
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "next_round", planner.next_round)
    monkeypatch.setattr(conclusion, "conclude", planner.conclude)


@pytest.fixture
def worker(resources: Resources) -> Worker:
    return Worker(
        resources, Rules(resources.settings, Program("stand_in_child", (stack.HERE,)), threading.Event()), "w"
    )


def submitted(worker: Worker, script: dict[str, Any] | None = None, **goal: Any) -> str:
    """Check a model by its script and submit a search for it."""
    resources = worker.resources
    model = stack.add_model(resources, {"job": {}, **(script or {})}, ring=False)
    perform(worker, model)
    document = {"upload": "u", "name": "d", "format": "npz", "columns": {}, "splits": {}, "tags": {}, "size_bytes": 2}
    columns = {"document": document, "sha256": stack.keep_bytes(resources, b"PK")}
    dataset = stack.submit(resources, ("dst", datasets), columns, WorkKind.CHECK_DATASET)
    with resources.database.transaction() as tx:
        work.request_cancel(tx, dataset)
    request = JobCreate.model_validate(
        {"model": model, "dataset": dataset, "seed": 3, "device": "cpu", "tags": {"a": "b"}, "goal": goal}
        | {"limits": {"max_run_s": 77}, "webhook": "https://example.org/h"}
    )
    return stack.submit(resources, ("job", jobs), {"document": request.model_dump(mode="json")}, WorkKind.SEARCH)


def candidates(resources: Resources, search: str, *states: str) -> list[str]:
    """Return the candidates in the order of planning."""
    with resources.database.reading() as tx:
        found = records.page(tx, jobs, "tenant", records.Cursor(100), {"parent": search})
    order = [name for names in planner.ROUNDS for name in names]
    wanted = [row for row in found if not states or row["state"] in states]
    return [row["id"] for row in sorted(wanted, key=lambda row: order.index(technique(row)))]


def technique(row: records.Record) -> str:
    return str(row["document"]["recipe"]["steps"][0]["technique"])


def job(resources: Resources, job_id: str) -> records.Record:
    with resources.database.reading() as tx:
        return records.get(tx, jobs, "tenant", job_id)


def ran(worker: Worker, search: str) -> records.Record:
    """Answer doorbells one after the other until the search has ended."""
    for _ in range(20):
        if stack.read(worker.resources, search).state in stack.FINAL:
            break
        perform(worker, search)
    return job(worker.resources, search)


def found(row: records.Record) -> Search:
    search = Report.model_validate(row["report"]).search
    assert search is not None
    return search


def pass_deadline(resources: Resources) -> None:
    with resources.database.transaction() as tx:
        tx.execute(update(searches_table).values(deadline=records.clock(tx) - 0.001))


def test_search_ends_with_the_recommended_candidate(worker: Worker) -> None:
    search = submitted(worker)

    row = ran(worker, search)

    ids, told = candidates(worker.resources, search), found(row)
    assert (row["state"], row["attempt"], row["progress"]) == ("succeeded", 1, 1.0)
    assert [(one.job, one.name, one.round) for one in told.points] == [
        (ids[0], "share_weights", 0), (ids[1], "ternarize", 0), (ids[2], "binarize", 0), (ids[3], "quantize_int8", 0),
        (ids[4], "quantize_int4", 1), (ids[5], "quantize_fp16", 1),
    ]  # fmt: skip
    assert (told.recommended, told.front, told.ended_by) == (ids[5], ids, "plan")
    best = job(worker.resources, ids[5])
    assert row["artifact_id"] == best["artifact_id"] is not None
    assert {**row["report"], "search": None} == best["report"]
    assert stack.states(worker.resources, search) == ["queued", "running"] * 3 + ["succeeded"]
    assert not list(worker.resources.settings.scratch.iterdir())


def test_candidates_ask_for_what_the_search_does(worker: Worker) -> None:
    search = submitted(worker, budget_s=100_000)
    asked = job(worker.resources, search)["document"]

    perform(worker, search)

    document = job(worker.resources, candidates(worker.resources, search)[0])["document"]
    same = ("model", "dataset", "task", "seed", "device", "tags")
    assert [document[name] for name in same] == [asked[name] for name in same]
    assert (document["goal"], document["guard"], document["webhook"]) == (None, None, None)
    assert document["limits"] == {"max_run_s": 77, "max_queue_s": 100_000}
    assert document["recipe"]["steps"][0]["technique"] == "share_weights"


def test_candidates_explain_what_they_lose_beyond_the_goal(worker: Worker, tmp_path: Path) -> None:
    search = submitted(worker, max_drop=0.03)
    perform(worker, search)
    first = candidates(worker.resources, search)[0]

    order = prepared(worker, first, tmp_path / "order")

    assert order.guard is None
    assert order.logits is None
    assert order.explained == Guard(metric="accuracy", max_drop=0.03)


def prepared(worker: Worker, candidate: str, folder: Path) -> CompressOrder:
    """Claim a candidate and return its order."""
    with worker.resources.database.transaction() as tx:
        held = work.claim(tx, candidate, "w", 30.0, 3)
    assert isinstance(held, work.Claim)
    (folder / "in").mkdir(parents=True)
    order = compress.KIND.prepare(worker.resources, held, folder)
    assert isinstance(order, CompressOrder)
    return order


def test_candidates_are_given_what_the_original_answered(worker: Worker, tmp_path: Path) -> None:
    search = submitted(worker, {"survey": {"logits": "said"}})
    perform(worker, search)
    first, second = candidates(worker.resources, search)[:2]

    order = prepared(worker, first, tmp_path / "first")

    assert order.logits is not None
    assert (tmp_path / "first" / order.logits).read_text() == "said"
    with worker.resources.database.reading() as tx:
        sha256 = searches.logits_of(tx, search)
    assert sha256 is not None
    worker.resources.blobs.delete([address(sha256)])
    assert prepared(worker, second, tmp_path / "second").logits is None


class Bells:
    """Hears what is rung for."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, _kind: WorkKind, work_id: str, _queue: Queue, _trace: str | None = None) -> bool:
        self.rung.append(work_id)
        return True

    def close(self) -> None:
        pass


def test_candidates_are_rung_for_and_their_search_once_the_last_has_ended(worker: Worker) -> None:
    search, bells = submitted(worker), Bells()
    hearing = replace(worker, resources=replace(worker.resources, broker=bells))  # type: ignore[arg-type] # a stand-in

    perform(hearing, search)
    ids = candidates(worker.resources, search)
    assert sorted(bells.rung) == sorted(ids)
    for _ in ids[1:]:
        perform(hearing, search)
    assert search not in bells.rung
    perform(hearing, search)

    assert bells.rung[len(ids) :] == [search]


def test_search_is_rung_for_when_the_last_candidate_is_cancelled_in_mid_run(worker: Worker) -> None:
    search, bells = submitted(worker, {"job": {"then": "hang"}}), Bells()
    hearing = replace(worker, resources=replace(worker.resources, broker=bells))  # type: ignore[arg-type] # a stand-in
    perform(worker, search)
    first, *others = candidates(worker.resources, search)
    thread = threading.Thread(target=perform, args=(hearing, first))
    thread.start()
    stack.until(lambda: candidates(worker.resources, search, "running"))

    with worker.resources.database.transaction() as tx:
        for one in (first, *others):
            work.request_cancel(tx, one)

    thread.join(10)
    assert bells.rung == [search]


def test_no_worker_is_held_while_candidates_wait(worker: Worker) -> None:
    search = submitted(worker)

    perform(worker, search)

    states = [stack.read(worker.resources, one).state for one in (search, *candidates(worker.resources, search))]
    assert states == ["running", "queued", "queued", "queued", "queued"]
    assert stack.read(worker.resources, search).owner is None


def test_search_that_nothing_meets_fails_with_the_nearest_one_s_report(worker: Worker) -> None:
    search = submitted(worker, max_size_bytes=1)

    row = ran(worker, search)

    told = found(row)
    assert (row["state"], row["error"]["detail"]) == ("failed", "Nothing is that small.")
    assert row["error"]["type"].endswith("/guard-not-met")
    assert (row["artifact_id"], told.recommended) == (None, None)
    nearest = job(worker.resources, told.nearest[0])
    assert {**row["report"], "search": None} == nearest["report"]
    with worker.resources.database.reading() as tx:
        artifact = records.get(tx, artifacts, "tenant", nearest["artifact_id"])
    assert worker.resources.blobs.exists(artifact["document"]["variants"]["packed"]["sha256"])


def test_search_of_which_nothing_was_measured_fails_without_a_report(worker: Worker) -> None:
    search = submitted(worker, {"job": {"then": "fail"}})

    row = ran(worker, search)

    assert (row["state"], row["report"], row["artifact_id"]) == ("failed", None, None)


def test_candidate_that_fails_or_is_cancelled_was_tried(worker: Worker) -> None:
    search = submitted(worker, {"job": {"by_technique": {"ternarize": {"then": "fail"}}}})
    perform(worker, search)
    with worker.resources.database.transaction() as tx:
        work.request_cancel(tx, candidates(worker.resources, search)[0])

    row = ran(worker, search)

    errors = [one.error and one.error.type.rpartition("/")[2] for one in found(row).points]
    assert row["state"] == "succeeded"
    assert errors == ["conflict", "model-malformed", None, None, None, None]
    assert found(row).ended_by == "plan"


def test_search_fails_when_its_survey_does(worker: Worker) -> None:
    search = submitted(worker, {"survey": {"then": "fail"}})

    row = ran(worker, search)

    assert (row["state"], row["error"]["type"].rpartition("/")[2]) == ("failed", "model-malformed")
    assert candidates(worker.resources, search) == []


def test_candidates_are_taken_in_the_order_of_planning(worker: Worker) -> None:
    search = submitted(worker)
    perform(worker, search)
    for _ in range(4):
        perform(worker, search)
        done = candidates(worker.resources, search, "succeeded")
        assert done == candidates(worker.resources, search)[: len(done)]


def test_search_concludes_with_what_was_measured_when_its_time_is_up(worker: Worker) -> None:
    search = submitted(worker)
    for _ in range(3):
        perform(worker, search)
    done = candidates(worker.resources, search, "succeeded")
    pass_deadline(worker.resources)
    sweep_once(worker.resources)

    row = ran(worker, search)

    told = found(row)
    assert (row["state"], told.ended_by, told.recommended) == ("succeeded", "budget", done[-1])
    assert [one.error and one.error.type.rpartition("/")[2] for one in told.points] == [
        None, None, "time-limit-exceeded", "time-limit-exceeded",
    ]  # fmt: skip


def test_no_round_begins_after_the_time_is_up(worker: Worker) -> None:
    search = submitted(worker)
    for _ in range(5):
        perform(worker, search)
    pass_deadline(worker.resources)

    row = ran(worker, search)

    assert (found(row).ended_by, len(found(row).points)) == ("budget", 4)


def test_search_that_tried_all_it_planned_was_not_ended_by_its_budget(worker: Worker) -> None:
    search = submitted(worker)
    for _ in range(8):
        perform(worker, search)
    pass_deadline(worker.resources)

    assert found(ran(worker, search)).ended_by == "plan"


def test_survey_is_not_made_again_when_a_worker_was_lost_after_it(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = submitted(worker)

    def vanish(*_arguments: Any) -> None:
        raise SystemExit  # as a kill does: nothing more is written

    with monkeypatch.context() as broken:
        broken.setattr(rounds, "next_round", vanish)
        with pytest.raises(SystemExit):
            perform(worker, search)
    assert stack.read(worker.resources, search).state == "running"
    with worker.resources.database.transaction() as tx:
        tx.execute(update(work_table).where(work_table.c.id == search).values(lease_until=0.0))

    row = ran(worker, search)

    surveys = [one for one in stack.history(worker.resources, search) if one["kind"] == "curve"]
    assert (row["state"], row["attempt"], len(surveys)) == ("succeeded", 2, 1)


def test_planner_that_breaks_ends_the_search_and_not_the_worker(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = submitted(worker)
    monkeypatch.setattr(conclusion, "conclude", lambda *_arguments: 1 / 0)

    row = ran(worker, search)

    assert (row["state"], row["error"]["type"].rpartition("/")[2]) == ("failed", "internal-error")


def test_search_that_is_cancelled_while_it_is_surveyed_ends(worker: Worker) -> None:
    search = submitted(worker, {"survey": {"then": "hang"}})
    thread = threading.Thread(target=perform, args=(worker, search))
    thread.start()
    stack.until(lambda: stack.read(worker.resources, search).stage == "training")

    with worker.resources.database.transaction() as tx:
        work.request_cancel(tx, search)

    thread.join(10)
    assert stack.read(worker.resources, search).state == "cancelled"
