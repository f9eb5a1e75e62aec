"""What goes after its time and what stays, on SQLite and PostgreSQL."""

from typing import Any

import pytest
from sqlalchemy import Table, func, select

from app.contracts.base import new_id
from app.contracts.job import JobState
from app.contracts.tasks import Queue, WorkKind
from app.settings import Retention
from app.stores import naming, records, retention, work
from app.stores.database import Database
from app.stores.tables import artifacts, benchmarks, candidates, datasets, events, jobs, models, triggers
from app.stores.tables import work as work_table

DAY_S = 86_400.0
KINDS = {
    "mdl": (models, WorkKind.CHECK_MODEL),
    "dst": (datasets, WorkKind.CHECK_DATASET),
    "job": (jobs, WorkKind.COMPRESS),
    "bmk": (benchmarks, WorkKind.BENCHMARK),
}
FILES = {"packed": {"sha256": "a" * 64, "size_bytes": 100, "zstd_bytes": 20}}


def add(database: Database, prefix: str, days: float, *, ended: bool = True, **columns: Any) -> str:
    """Add a record that is `days` old, with its work."""
    table, kind = KINDS[prefix]
    kind, parent = columns.pop("kind", kind), columns.pop("parent", None)
    row_id, tenant = new_id(prefix), columns.pop("tenant", "tenant")
    with database.transaction() as tx:
        at = records.clock(tx) - days * DAY_S
        records.add(tx, table, tenant, row_id, {"document": {}, **columns})
        work.enqueue(tx, work.Ticket(row_id, tenant, kind, Queue.CPU, 60, parent_id=parent))
        tx.execute(table.update().where(table.c.id == row_id).values(created_at=at))
        over = {"state": JobState.SUCCEEDED, "ended_at": at} if ended else {}
        tx.execute(work_table.update().where(work_table.c.id == row_id).values(created_at=at, **over))
    return row_id


def add_model(database: Database, days: float, **changes: Any) -> str:
    return add(database, "mdl", days, sha256="b" * 64, **{"document": {"size_bytes": 1_000}, **changes})


def add_job(database: Database, days: float, model: str = "", **columns: Any) -> str:
    document = {"model": model, "dataset": columns.pop("dataset", None), "recipe": columns.pop("recipe", None)}
    return add(database, "job", days, document=document, **columns)


def add_artifact(database: Database, job: str, days: float, tenant: str = "tenant") -> str:
    artifact = new_id("art")
    with database.transaction() as tx:
        records.add(tx, artifacts, tenant, artifact, {"document": {"variants": FILES}, "job_id": job})
        at = records.clock(tx) - days * DAY_S
        tx.execute(artifacts.update().where(artifacts.c.id == artifact).values(created_at=at))
        records.change(tx, jobs, job, {"artifact_id": artifact})
    return artifact


def left(database: Database, table: Table) -> set[str]:
    with database.reading() as tx:
        return set(tx.execute(select(table.c.id)).scalars())


def counts(database: Database, table: Table) -> int:
    with database.reading() as tx:
        return tx.execute(select(func.count()).select_from(table)).scalar_one()


def went(database: Database, tenant: str = "tenant", **days: float) -> dict[str, tuple[set[str], int]]:
    """Apply a rule and return what went with its bytes, having seen that a dry run tells the same."""
    rules = {tenant: Retention.model_validate(days)}
    seen = summed(list(retention.foreseen(database, rules)))
    gone = summed(list(retention.apply(database, rules)))
    assert seen == gone
    return gone


def summed(batches: list[retention.Gone]) -> dict[str, tuple[set[str], int]]:
    found: dict[str, tuple[set[str], int]] = {}
    for one in batches:
        if one.ids:
            ids, size = found.get(one.noun, (set(), 0))
            found[one.noun] = ids | set(one.ids), size + one.bytes
    return found


def test_without_rules_everything_stays(database: Database) -> None:
    add_artifact(database, add_job(database, 1_000), 1_000)

    assert list(retention.apply(database, {})) == []
    assert went(database) == {}


def test_old_artifact_goes_and_its_job_names_none(database: Database) -> None:
    old_job, young_job = add_job(database, 100), add_job(database, 10)
    old, young = add_artifact(database, old_job, 100), add_artifact(database, young_job, 10)
    ended = add(database, "bmk", 99, artifact_id=old)

    assert went(database, artifacts_days=90) == {"artifacts": ({old}, 120)}

    assert left(database, artifacts) == {young}
    assert left(database, jobs) == {old_job, young_job}
    assert ended not in left(database, benchmarks) | left(database, work_table)
    with database.reading() as tx:
        found = {row.id: row.artifact_id for row in tx.execute(select(jobs.c.id, jobs.c.artifact_id))}
    assert found == {old_job: None, young_job: young}


def test_artifact_that_is_being_timed_stays(database: Database) -> None:
    job = add_job(database, 100)
    artifact = add_artifact(database, job, 100)
    add(database, "bmk", 1, ended=False, artifact_id=artifact)

    assert went(database, artifacts_days=90, jobs_days=90) == {}


def test_old_job_goes_with_its_artifact_and_history(database: Database) -> None:
    old, young = add_job(database, 400), add_job(database, 300)
    artifact = add_artifact(database, old, 400)
    unfinished = add_job(database, 1_000, ended=False)

    assert went(database, jobs_days=365) == {"jobs": ({old}, 0), "artifacts": ({artifact}, 120)}

    assert left(database, jobs) == left(database, work_table) == {young, unfinished}
    assert left(database, artifacts) == set()
    assert counts(database, events) == 2


def test_candidates_stay_as_long_as_their_search(database: Database) -> None:
    open_search = add_job(database, 100, kind=WorkKind.SEARCH, ended=False)
    waited_for = add_job(database, 100, parent=open_search)
    kept = add_artifact(database, waited_for, 100)
    young_search = add_job(database, 1, kind=WorkKind.SEARCH)
    of_young = add_job(database, 100, parent=young_search)
    old_search = add_job(database, 100, kind=WorkKind.SEARCH)
    of_old = add_job(database, 101, parent=old_search)
    with database.transaction() as tx:
        row = {"job_id": of_old, "parent_id": old_search, "position": 0, "round": 1, "name": "x"}
        tx.execute(candidates.insert().values(row))

    assert went(database, artifacts_days=90, jobs_days=90) == {"jobs": ({old_search, of_old}, 0)}

    assert left(database, jobs) == {open_search, waited_for, young_search, of_young}
    assert left(database, artifacts) == {kept}
    assert counts(database, candidates) == 0


def test_search_names_no_artifact_that_is_gone(database: Database) -> None:
    search = add_job(database, 100, kind=WorkKind.SEARCH)
    artifact = add_artifact(database, add_job(database, 100, parent=search), 100)
    with database.transaction() as tx:
        records.change(tx, jobs, search, {"artifact_id": artifact})

    went(database, artifacts_days=90)

    with database.reading() as tx:
        assert set(tx.execute(select(jobs.c.artifact_id)).scalars()) == {None}


def test_search_with_an_open_candidate_stays(database: Database) -> None:
    search = add_job(database, 100, kind=WorkKind.SEARCH)
    add_job(database, 100, parent=search, ended=False)

    assert went(database, jobs_days=90) == {}


def test_models_and_data_sets_that_nothing_names_go(database: Database) -> None:
    compressed, teacher, against, of_trigger, free, young, unchecked = (
        add_model(database, days, ended=days != 98) for days in (100, 100, 100, 100, 100, 10, 98)
    )
    used = add(database, "dst", 100, sha256="c" * 64, document={"size_bytes": 10})
    unused = add(database, "dst", 100, sha256="c" * 64, document={"size_bytes": 10})
    recipe = {"steps": [{"technique": "distill", "teacher": teacher}]}
    job = add_job(database, 1, compressed, dataset=used, recipe=recipe)
    artifact = add_artifact(database, job, 1)
    add(database, "bmk", 1, artifact_id=artifact, document={"against": against})
    with database.transaction() as tx:
        records.add(tx, triggers, "tenant", new_id("trg"), {"document": {"model": of_trigger}, "secret": ""})

    assert went(database, unused_models_days=90, unused_datasets_days=90) == {
        "models": ({free}, 1_000),
        "datasets": ({unused}, 10),
    }

    assert left(database, models) == {compressed, teacher, against, of_trigger, young, unchecked}
    assert left(database, datasets) == {used}
    assert free not in left(database, work_table)


def test_model_goes_in_the_same_round_as_the_last_job_that_named_it(database: Database) -> None:
    model, against = add_model(database, 400), add_model(database, 400)
    job = add_job(database, 400, model)
    artifact = add_artifact(database, job, 400)
    add(database, "bmk", 399, artifact_id=artifact, document={"against": against})

    assert went(database, jobs_days=365, unused_models_days=30) == {
        "jobs": ({job}, 0),
        "artifacts": ({artifact}, 120),
        "models": ({model, against}, 2_000),
    }


def test_model_that_is_named_after_the_first_look_stays(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    model = add_model(database, 100)
    first_look = naming.named

    def named_meanwhile(*given: Any) -> set[str]:
        found = first_look(*given)
        add_job(database, 0, model, ended=False)
        return found

    monkeypatch.setattr(naming, "named", named_meanwhile)

    rules = {"tenant": Retention(unused_models_days=90)}
    assert [one.ids for one in retention.apply(database, rules)] == [[]]
    assert left(database, models) == {model}


def test_each_tenant_has_its_own_rule_or_that_of_all_others(database: Database) -> None:
    owned = {tenant: add_job(database, 100, tenant=tenant) for tenant in ("short", "long", "other")}
    rules = {"short": Retention(jobs_days=10), "long": Retention(jobs_days=1_000), "*": Retention(jobs_days=50)}

    gone = {one.tenant: one.ids for one in retention.apply(database, rules) if one.ids}

    assert gone == {"short": [owned["short"]], "other": [owned["other"]]}
    assert left(database, jobs) == {owned["long"]}


def test_many_go_in_small_batches(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    old = {add_job(database, 100, add_model(database, 100)) for _ in range(5)}

    rules = {"tenant": Retention(jobs_days=90, unused_models_days=90)}
    batches = list(retention.apply(database, rules))

    assert [len(one.ids) for one in batches if one.noun == "jobs"] == [2, 2, 1]
    assert [len(one.ids) for one in batches if one.noun == "models"] == [2, 2, 1]
    assert {row_id for one in batches if one.noun == "jobs" for row_id in one.ids} == old


def test_job_that_is_being_resumed_stays(database: Database) -> None:
    job = add_job(database, 100)
    if database.local:
        pytest.skip("SQLite has one writer at a time")
    with database.transaction() as tx:
        tx.execute(work_table.update().values(state=JobState.FAILED))
    with database.transaction() as tx:
        work.resume(tx, job)
        assert [one.ids for one in retention.apply(database, {"*": Retention(jobs_days=90)})] == [[], []]
    assert left(database, jobs) == {job}
