"""A search by two real workers of which one is killed: it ends once, and as it would have ended."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from app.contracts.job import JobCreate
from app.contracts.report import Report
from app.contracts.tasks import WorkKind
from app.resources import Resources
from app.stores import records
from app.stores.tables import artifacts, jobs
from tests.stand_in import planner, stack

SLOW = {"steps": 10, "pause_s": 0.15}
NAMES = [name for names in planner.ROUNDS for name in names]


@contextmanager
def two_workers(resources: Resources) -> Iterator[list[Popen[bytes]]]:
    settings = resources.settings
    broker, sweeper = stack.start_broker(settings.data_dir), stack.start_sweeper(settings)
    workers = [stack.start_worker(settings, module="tests.stand_in.planner") for _ in range(2)]
    try:
        yield workers
    finally:
        for process in (*workers, sweeper, broker):
            if process.poll() is None:
                stack.kill(process)


@pytest.fixture
def resources() -> Iterator[Resources]:
    with stack.data_folder() as folder:
        settings = stack.settings_for(folder, fault_file=folder / "fault", child_memory_bytes=512 << 20)
        with stack.open_stores(settings) as found:
            yield found


def submitted(resources: Resources, script: dict[str, Any]) -> str:
    model = stack.add_model(resources, script)
    assert stack.ended(resources, model).state == "succeeded"
    request = JobCreate.model_validate({"model": model, "device": "cpu", "goal": {}})
    return stack.submit(resources, ("job", jobs), {"document": request.model_dump(mode="json")}, WorkKind.SEARCH)


def candidates(resources: Resources, search: str, state: str | None = None) -> list[str]:
    with resources.database.reading() as tx:
        filters = {"parent": search, "state": state}
        return [row["id"] for row in records.page(tx, jobs, "tenant", records.Cursor(100), filters)]


def owner(resources: Resources, work_id: str, workers: list[Popen[bytes]]) -> Popen[bytes]:
    named = stack.read(resources, work_id).owner
    (found,) = [worker for worker in workers if named.endswith(f":{worker.pid}")]
    return found


def kill_one(when: str, resources: Resources, search: str, workers: list[Popen[bytes]]) -> None:
    """Kill the worker that surveys, that enters the candidates, or that runs some of them."""
    if when == "survey":
        stack.until(lambda: stack.read(resources, search).stage == "training")
        stack.kill(owner(resources, search, workers))
    elif when == "entering":
        stack.until(lambda: any(worker.poll() is not None for worker in workers))
    else:
        stack.until(lambda: candidates(resources, search, "running"))
        stack.kill(owner(resources, candidates(resources, search, "running")[0], workers))
    assert stack.read(resources, search).state == "running"


@pytest.mark.parametrize("when", ["survey", "entering", "candidates", None])
def test_search_ends_once_and_with_the_same_front_when_a_worker_is_killed(
    resources: Resources, when: str | None
) -> None:
    with two_workers(resources) as workers:
        script = {"survey": SLOW, "job": SLOW}
        search = submitted(resources, script)
        if when == "entering":
            fault_file: Path | None = resources.settings.fault_file
            assert fault_file is not None
            fault_file.write_text("recorded SIGKILL")
        if when is not None:
            kill_one(when, resources, search, workers)
        row = stack.ended(resources, search, 60)
        told = stack.states(resources, search)

    with resources.database.reading() as tx:
        found = records.get(tx, jobs, "tenant", search)
        made = Counter(one["job_id"] for one in records.page(tx, artifacts, "tenant", records.Cursor(100)))
    outcome = Report.model_validate(found["report"]).search
    assert outcome is not None
    names = {point.job: point.name for point in outcome.points}
    assert (row.state, told.count("succeeded")) == ("succeeded", 1)
    assert [names[job] for job in outcome.front] == NAMES
    assert outcome.recommended is not None
    assert names[outcome.recommended] == NAMES[-1]
    assert sorted(made.elements()) == sorted(candidates(resources, search))  # each candidate published once
    assert (row.attempt, row.losses) == ((2, 1) if when in {"survey", "entering"} else (1, 0))
