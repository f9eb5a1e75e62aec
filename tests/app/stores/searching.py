"""What tests of searches start from, in the order of a search's life."""

import time
from typing import Any

from sqlalchemy import update

from app.contracts.base import new_id
from app.contracts.job import JobCreate, JobState
from app.contracts.survey import Survey
from app.contracts.tasks import Queue, WorkKind
from app.errors import RuntimeCrashed
from app.problems import problem_of
from app.stores import records, searches, work
from app.stores.database import Database
from app.stores.tables import jobs
from app.stores.tables import searches as searches_table
from app.stores.tables import work as work_table
from tests.stand_in import stand_in_job

MODEL, DATASET = "mdl_" + "0" * 26, "dst_" + "0" * 26
SURVEY = Survey.model_validate(stand_in_job.SURVEY)
RECIPE = {"steps": [{"technique": "share_weights"}]}
REQUEST = JobCreate.model_validate({"model": MODEL, "dataset": DATASET, "recipe": RECIPE})


def begun(database: Database, budget_s: float = 600.0, tenant: str = "tenant", survey: Survey = SURVEY) -> work.Claim:
    """Submit a search, claim it, and keep its survey."""
    search_id = new_id("job")
    document = {"model": MODEL, "dataset": DATASET, "goal": {}, "webhook": "https://example.org/h"}
    with database.transaction() as tx:
        records.add(tx, jobs, tenant, search_id, {"document": document})
        work.enqueue(tx, work.Ticket(search_id, tenant, WorkKind.SEARCH, Queue.CPU, 60, 60))
    held = claim(database, search_id)
    with database.transaction() as tx:
        searches.keep_survey(tx, search_id, survey, budget_s)
    return held


def claim(database: Database, work_id: str, lease_s: float = 30.0) -> work.Claim:
    with database.transaction() as tx:
        held = work.claim(tx, work_id, "worker", lease_s, 3)
    assert held is not None
    return held


def let_go(database: Database, held: work.Claim, *names: str, round_number: int = 0) -> list[str]:
    planned = [searches.Planned(REQUEST, name, round_number) for name in names]
    with database.transaction() as tx:
        bells = searches.let_go(tx, held, planned)
    assert bells is not None
    return [bell.id for bell in bells]


def waiting(database: Database, *names: str, budget_s: float = 600.0) -> tuple[str, list[str]]:
    held = begun(database, budget_s)
    return held.id, let_go(database, held, *names)


def end(database: Database, held: work.Claim, state: JobState = JobState.SUCCEEDED) -> None:
    with database.transaction() as tx:
        assert work.finish(tx, held, state, problem_of(RuntimeCrashed()) if state == JobState.FAILED else None)


def read(database: Database, work_id: str) -> Any:
    with database.reading() as tx:
        return work.read(tx, work_id)


def states(database: Database, ids: list[str]) -> list[str]:
    return [read(database, work_id).state for work_id in ids]


def cancel(database: Database, work_id: str) -> JobState:
    with database.transaction() as tx:
        return work.request_cancel(tx, work_id)


def sweep(database: Database, ring_again_s: float = 60.0) -> list[work.Bell]:
    """Sweep as the sweeper does."""
    with database.reading() as tx:
        due = searches.due(tx)
    for search_id in due:
        with database.transaction() as tx:
            searches.hurry(tx, search_id)
    with database.transaction() as tx:
        return work.sweep(tx, work.stale(tx, ring_again_s), ring_again_s, 3)


def pass_deadline(database: Database, search_id: str) -> None:
    with database.transaction() as tx:
        mine = searches_table.c.work_id == search_id
        tx.execute(update(searches_table).where(mine).values(deadline=records.clock(tx) - 0.001))
    time.sleep(0.01)


def alter(database: Database, work_id: str, **values: Any) -> None:
    with database.transaction() as tx:
        tx.execute(update(work_table).where(work_table.c.id == work_id).values(**values))
