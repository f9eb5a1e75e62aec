"""What the doctor finds: contradictions, stores that are away, queues that nobody serves."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.contracts.operations import Finding
from app.contracts.tasks import Queue, WorkKind
from app.doctor import __main__ as doctor
from app.doctor import queues, settings, stores
from app.resources import Resources, connect
from app.settings import Settings
from app.stores import work
from app.stores.tables import registrations, webhooks
from app.stores.tables import work as work_table
from tests.stand_in import stack

GIB = 1 << 30
KEYS = {SecretStr("k"): "t"}


def worst(found: list[Finding], about: str) -> str:
    levels = [one.level for one in found if one.about == about]
    return max(levels, key=["ok", "warning", "problem"].index)


@pytest.fixture
def resources(settings: Settings) -> Resources:
    return connect(settings)


def queued(resources: Resources, ago_s: float = 0.0) -> str:
    with resources.database.transaction() as tx:
        work.enqueue(tx, work.Ticket("job_1", "tenant", WorkKind.COMPRESS, Queue.GPU, 60))
        tx.execute(work_table.update().values(created_at=time.time() - ago_s))
    return "job_1"


@pytest.mark.parametrize(
    ("changes", "level", "cure"),
    [
        ({}, "ok", ""),
        ({"host": "0.0.0.0"}, "problem", "MODELPRESS_API_KEYS"),
        ({"profile": "production"}, "problem", "MODELPRESS_API_KEYS"),
        ({"profile": "production", "api_keys": KEYS}, "warning", "DATABASE_URL"),
        ({"child_file_bytes": 7 * GIB}, "problem", "MODELPRESS_CHILD_FILE_BYTES"),
        ({"child_memory_bytes": 3 * GIB}, "problem", "MODELPRESS_CHILD_MEMORY_BYTES"),
        ({"max_upload_bytes": GIB}, "warning", "MODELPRESS_MAX_UPLOAD_BYTES"),
        ({"max_stored_bytes_per_tenant": GIB}, "warning", "MODELPRESS_MAX_STORED_BYTES_PER_TENANT"),
        ({"drain_s": 60.0}, "warning", "MODELPRESS_DRAIN_S"),
        ({"lease_s": 2.0}, "warning", "MODELPRESS_LEASE_S"),
        ({"max_losses": 0}, "problem", "MODELPRESS_MAX_LOSSES"),
    ],
    ids=str,
)
def test_contradicting_settings_are_found(changes: dict[str, object], level: str, cure: str) -> None:
    found = [*settings.look(Settings(**changes))]  # type: ignore[arg-type] # fields by name

    assert worst(found, "settings") == level
    assert any(cure in one.cure for one in found)


def test_queue_that_nobody_takes_from_is_a_problem(resources: Resources) -> None:
    queued(resources, ago_s=100.0)

    found = [*queues.look(resources)]

    assert worst(found, "queue gpu") == "problem"
    assert any("workers.main --queues gpu" in one.cure for one in found)


def test_queue_that_waits_for_a_busy_worker_is_none(resources: Resources) -> None:
    work_id = queued(resources, ago_s=100.0)
    with resources.database.transaction() as tx:
        work.claim(tx, work_id, "host:1", 30.0, 3)
        work.enqueue(tx, work.Ticket("job_2", "tenant", WorkKind.COMPRESS, Queue.GPU, 60))

    assert worst([*queues.look(resources)], "queue gpu") == "ok"


def test_lease_that_nobody_takes_back_is_a_problem(resources: Resources) -> None:
    work_id = queued(resources)
    with resources.database.transaction() as tx:
        work.claim(tx, work_id, "host:1", -100.0, 3)

    found = [*queues.look(resources)]

    assert worst(found, "leases") == "problem"
    assert any("workers.sweeper" in one.cure and work_id in one.finding for one in found)


def test_work_that_is_set_aside_is_named(resources: Resources) -> None:
    work_id = queued(resources)
    with resources.database.transaction() as tx:
        work.quarantine(tx, work_id, "d")

    found = [*queues.look(resources)]

    assert worst(found, "quarantine") == "warning"
    assert any(work_id in one.finding for one in found)


@pytest.mark.parametrize(
    ("hook", "level"),
    [
        ({"next_at": 1e11}, "ok"),
        ({"next_at": 1.0}, "problem"),
        ({"next_at": 1e11, "tries": 2, "last_status": 500}, "warning"),
        ({"next_at": None, "tries": 10, "last_status": None}, "warning"),
        ({"next_at": None, "tries": 1, "last_status": 204}, "ok"),
    ],
    ids=str,
)
def test_webhooks_that_do_not_arrive_are_told(resources: Resources, hook: dict[str, object], level: str) -> None:
    with resources.database.transaction() as tx:
        row = {"id": "evt_1", "tenant": "t", "url": "u", "secret": "", "body": "", "tries": 0, **hook}
        tx.execute(webhooks.insert().values(**row))

    assert worst([*queues.look(resources)], "webhooks") == level


@pytest.mark.parametrize(
    ("registration", "level"),
    [
        ({}, "ok"),  # its job has not ended
        ({"next_at": 1e11}, "ok"),
        ({"next_at": 1.0}, "problem"),
        ({"next_at": 1.0, "lease_until": 1e11}, "ok"),
        ({"next_at": 1e11, "tries": 2}, "warning"),
        ({"tries": 10}, "warning"),
        ({"tries": 1, "result_version": "3"}, "ok"),
    ],
    ids=str,
)
def test_results_that_do_not_reach_the_registry_are_told(
    resources: Resources, registration: dict[str, object], level: str
) -> None:
    work_id = queued(resources)
    names = {"server": "s", "source_name": "n", "source_version": "1", "result_name": "r", "tags": {}}
    with resources.database.transaction() as tx:
        tx.execute(registrations.insert().values({"job_id": work_id, "tenant": "t", **names, **registration}))

    found = [*queues.look(resources)]

    assert (worst(found, "registrations"), worst(found, "webhooks")) == (level, "ok")


@pytest.mark.parametrize(("version", "level"), [("0001", "problem"), ("9999", "problem"), (None, "ok")])
def test_schema_of_another_version_is_a_problem(resources: Resources, version: str | None, level: str) -> None:
    if version is not None:
        with resources.database.transaction() as tx:
            tx.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})

    assert worst([*stores.look_at_database(resources.database)], "database") == level


@pytest.mark.parametrize(("seconds", "level"), [(1.0, "ok"), (-60.0, "warning"), (290.0, "problem")])
def test_clocks_that_are_apart_are_told(seconds: float, level: str) -> None:
    assert [one.level for one in stores._skew(seconds)] == [level]


def test_database_that_is_away_is_the_finding(tmp_path: Path) -> None:
    away = Settings(data_dir=tmp_path, database_url="postgresql://u:hidden@127.0.0.1:1/x", blob_url="memory:///")

    found = [*doctor._stores(away)]

    assert worst(found, "database") == "problem"
    assert not any("hidden" in one.finding for one in found)
    assert {one.about for one in found} == {"database", "broker", "blob store"}


def test_looking_makes_nothing(tmp_path: Path) -> None:
    found = [*doctor._stores(Settings(data_dir=tmp_path / "none"))]

    assert worst(found, "database") == "problem"
    assert not (tmp_path / "none").exists()


def test_blob_store_that_is_away_is_a_problem_and_the_probe_is_gone(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    with connect(settings.model_copy(update={"blob_url": f"file://{folder}"})) as found:
        assert worst([*stores.look_at_blobs(found)], "blob store") == "ok"
        assert [path for path in folder.rglob("*") if path.is_file()] == []
    with connect(settings.model_copy(update={"blob_url": "s3://bucket?endpoint=http://127.0.0.1:1"})) as found:
        object.__setattr__(found.blobs, "_write", _refused)
        assert worst([*stores.look_at_blobs(found)], "blob store") == "problem"


def _refused(_key: str, _chunks: object) -> None:
    from app.errors import DependencyUnavailable  # noqa: PLC0415

    raise DependencyUnavailable


def test_broker_tells_its_eviction() -> None:
    with stack.data_folder() as folder, connect(Settings(data_dir=folder, blob_url="memory:///")) as found:
        assert worst([*stores.look_at_broker(found)], "broker") == "problem"
        broker = stack.start_broker(folder)
        try:
            assert worst([*stores.look_at_broker(found)], "broker") == "ok"
            with found.broker._celery.connection_for_write() as connection:
                connection.default_channel.client.config_set("maxmemory-policy", "allkeys-lru")
            assert worst([*stores.look_at_broker(found)], "broker") == "warning"
        finally:
            stack.kill(broker)


def test_setting_that_is_not_valid_is_the_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELPRESS_PORT", "none")

    code = doctor.main()

    (found,) = json.loads(capsys.readouterr().out)
    assert (code, found["level"], found["cure"]) == (1, "problem", "correct MODELPRESS_PORT")


def test_a_change_is_audited_and_a_refusal_too(resources: Resources) -> None:
    work_id = queued(resources)
    command = [sys.executable, "-m", "app.admin", "quarantine", work_id]

    done = [
        subprocess.run(command, env=stack.environment(resources.settings), capture_output=True, text=True, check=False)
        for _ in range(2)
    ]

    lines = [json.loads(line) for each in done for line in each.stderr.splitlines()]
    told = [(line["action"], line["target"], line["outcome"], line["tenant"]) for line in lines]
    assert [each.returncode for each in done] == [0, 5]
    assert told == [("quarantine_work", work_id, "done", "tenant"), ("quarantine_work", work_id, "refused", None)]
    assert all(line["key_id"].startswith("operator:") for line in lines)
