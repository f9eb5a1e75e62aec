"""One piece of work with a real child, real SQLite and real blobs, without a broker: how each ending is recorded."""

import sqlite3
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from app.errors import DependencyUnavailable
from app.resources import Resources
from app.settings import Settings
from app.stores import records, work
from app.stores.database import Database, default_url
from app.stores.tables import models
from tests.stand_in import stack
from workers import memory
from workers.child import Program
from workers.scratch import attempt_folder, remove_leftovers
from workers.supervisor import Rules
from workers.tasks import Worker, perform

PROGRAM = Program("stand_in_child", (stack.HERE,))


def make_worker(resources: Resources, settings: Settings | None = None) -> Worker:
    rules = Rules(settings or resources.settings, PROGRAM, threading.Event())
    return Worker(resources, rules, "test")


def done(resources: Resources, script: dict[str, Any] | bytes, max_run_s: int = 60) -> Any:
    work_id = stack.add_model(resources, script, max_run_s=max_run_s, ring=False)
    perform(make_worker(resources), work_id)
    assert not list(resources.settings.scratch.iterdir())
    return stack.read(resources, work_id)


def problem(row: Any) -> str:
    return row.error["type"].rpartition("/")[2]


def test_the_result_is_published_when_the_child_is_done(resources: Resources) -> None:
    row = done(resources, {"steps": 3})
    with resources.database.reading() as tx:
        model = records.get(tx, models, "tenant", row.id)
    assert (row.state, row.sandbox, row.progress) == ("succeeded", "full", 1.0)
    assert model["summary"]["parameters"] == 1


def test_the_log_holds_the_end_of_the_childs_errors_and_whose_they_are(resources: Resources) -> None:
    processors = [structlog.contextvars.merge_contextvars]
    with structlog.testing.capture_logs(processors) as lines:
        row = done(resources, {"then": "moan"})
    (said,) = [line for line in lines if line["event"] == "child failed"]
    assert (said["work"], said["attempt"], said["problem"]) == (row.id, 1, "model-malformed")
    assert said["stderr"].endswith("RuntimeRefused: the cause\n")
    assert len(said["stderr"]) <= 4096


def test_the_history_holds_every_point_and_line(resources: Resources) -> None:
    row = done(resources, {"steps": 3})
    kinds = [entry["kind"] for entry in stack.history(resources, row.id)]
    assert kinds == ["state", "state", "curve", "curve", "curve", "log", "state"]
    lines = [entry["message"] for entry in stack.history(resources, row.id) if entry["kind"] == "log"]
    assert lines == ["almost\\u000athere"]


def test_the_problem_is_kept_when_the_child_refuses(resources: Resources) -> None:
    row = done(resources, {"then": "fail"})
    assert (row.state, problem(row)) == ("failed", "model-malformed")


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL"])
def test_a_crash_of_the_runtime_is_not_tried_again(resources: Resources, number: str) -> None:
    row = done(resources, {"then": number})
    assert (row.state, row.attempt, problem(row)) == ("failed", 1, "runtime-crashed")


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_killed_child_is_tried_again(resources: Resources, number: str) -> None:
    row = done(resources, {"then": number})
    assert (row.state, row.losses) == ("queued", 1)


def test_a_child_that_is_always_killed_is_quarantined(resources: Resources) -> None:
    work_id = stack.add_model(resources, {"then": "SIGKILL"}, ring=False)
    for _ in range(4):
        perform(make_worker(resources), work_id)
    row = stack.read(resources, work_id)
    assert (row.state, row.attempt, problem(row)) == ("failed", 3, "poison-quarantined")


def test_a_kill_for_memory_is_not_tried_again(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([0, 1])
    monkeypatch.setattr(memory, "kills", lambda: next(counts))  # a real out-of-memory kill needs a control group
    row = done(resources, {"then": "SIGKILL"})
    assert (row.state, problem(row)) == ("failed", "resource-limit-exceeded")


def test_a_child_that_ends_without_an_answer_is_our_fault(resources: Resources) -> None:
    row = done(resources, {"then": "exit"})
    assert (row.state, problem(row)) == ("failed", "internal-error")


def test_a_child_that_leaves_no_file_is_our_fault(resources: Resources) -> None:
    row = done(resources, {"then": "nothing"})
    assert (row.state, problem(row)) == ("failed", "internal-error")


def test_a_link_left_by_the_child_is_not_followed(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.supervisor.Confinement.command", _unconfined)
    row = done(resources, {"then": "link"})
    assert row.state == "failed"
    with resources.database.reading() as tx:
        assert records.get(tx, models, "tenant", row.id)["onnx_sha256"] is None


def _unconfined(_self: object, module: str, *arguments: str) -> list[str]:
    return ["/usr/bin/env", sys.executable, "-m", module, *arguments]


def test_a_child_that_never_stops_writing_is_ended(resources: Resources) -> None:
    row = done(resources, {"then": "spam"})
    assert (row.state, problem(row)) == ("failed", "runtime-crashed")


def test_work_is_ended_when_its_time_is_up(resources: Resources) -> None:
    began = time.monotonic()
    row = done(resources, {"then": "hang"}, max_run_s=1)
    assert (row.state, problem(row)) == ("failed", "time-limit-exceeded")
    assert time.monotonic() - began < 5


def test_work_fails_when_its_bytes_are_gone(resources: Resources) -> None:
    work_id = stack.add_model(resources, {"steps": 1}, ring=False)
    with resources.database.reading() as tx:
        sha256 = records.get(tx, models, "tenant", work_id)["sha256"]
    resources.blobs.delete([f"sha256/{sha256}"])
    perform(make_worker(resources), work_id)
    assert problem(stack.read(resources, work_id)) == "artifact-missing"


@pytest.mark.parametrize("script", [{"steps": 30, "pause_s": 0.1}, {"then": "hang"}])
def test_nothing_is_written_when_another_attempt_owns_the_work(resources: Resources, script: dict[str, Any]) -> None:
    work_id = stack.add_model(resources, script, ring=False)
    thread = threading.Thread(target=perform, args=(make_worker(resources), work_id))
    thread.start()
    stack.until(lambda: stack.read(resources, work_id).stage == "training")
    with resources.database.transaction() as tx:
        tx.execute(work.work.update().values(fence="another", attempt=7))
    thread.join(5)
    assert not thread.is_alive()
    row = stack.read(resources, work_id)
    assert (row.state, row.fence, row.attempt) == ("running", "another", 7)


def test_work_is_given_back_when_the_worker_drains(resources: Resources) -> None:
    work_id = stack.add_model(resources, {"steps": 100, "pause_s": 0.1}, ring=False)
    worker = make_worker(resources)
    thread = threading.Thread(target=perform, args=(worker, work_id))
    thread.start()
    stack.until(lambda: stack.read(resources, work_id).stage == "training")
    worker.rules.drain.set()
    thread.join(5)
    assert not thread.is_alive()
    assert (stack.read(resources, work_id).state, stack.read(resources, work_id).losses) == ("queued", 0)


def test_work_goes_on_when_the_database_is_away_for_longer_than_the_lease(resources: Resources) -> None:
    resources.database.close()
    quick = Database(f"{default_url(resources.settings.data_dir)}?timeout=0.2")
    away = replace(resources, database=quick, settings=stack.settings_for(resources.settings.data_dir, lease_s=1.0))
    work_id = stack.add_model(resources, {"steps": 10, "pause_s": 0.1}, ring=False)
    thread = threading.Thread(target=perform, args=(make_worker(away), work_id))
    thread.start()
    stack.until(lambda: stack.read(resources, work_id).stage == "training")
    with sqlite3.connect(resources.settings.data_dir / "modelpress.db", isolation_level=None) as blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DependencyUnavailable), quick.transaction():
            pass
        time.sleep(3)
        blocker.execute("ROLLBACK")
    blocker.close()
    thread.join(20)
    quick.close()
    assert not thread.is_alive()
    assert (stack.read(resources, work_id).state, stack.read(resources, work_id).attempt) == ("succeeded", 1)


def test_leftovers_of_dead_workers_are_removed_and_live_folders_stay(tmp_path: Path) -> None:
    (tmp_path / "dead" / "out").mkdir(parents=True)
    (tmp_path / "dead.lock").touch()
    with attempt_folder(tmp_path, "alive") as folder:
        assert remove_leftovers(tmp_path) == 1
        assert folder.exists()
    assert not list(tmp_path.iterdir())
