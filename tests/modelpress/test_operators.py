"""`modelpress doctor` and `modelpress admin` over a data folder, as an operator runs them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.contracts.operations import WorkStanding
from app.contracts.tasks import Queue, WorkKind
from app.resources import connect
from app.settings import Settings
from app.stores import records, work
from app.stores.migrate import upgrade
from app.stores.tables import datasets
from modelpress.cli.main import build


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with connect(Settings(data_dir=tmp_path)) as resources:
        upgrade(resources.database)
        with resources.database.transaction() as tx:
            work.enqueue(tx, work.Ticket("job_1", "tenant", WorkKind.COMPRESS, Queue.CPU, 60))
    return tmp_path


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(build(), [*arguments, "--data", str(data)])


def test_admin_shows_sets_aside_and_refuses(data: Path) -> None:
    queues = run(data, "admin", "queues")
    aside = run(data, "admin", "quarantine", "job_1", "--reason", "full disk")
    again = run(data, "admin", "quarantine", "job_1")
    shown = WorkStanding.model_validate_json(run(data, "admin", "work", "job_1", "--json").stdout)

    assert (queues.exit_code, aside.exit_code, again.exit_code) == (0, 0, 5)
    assert "cpu" in queues.stdout
    assert "poison-quarantined: The operator set the work aside: full disk" in aside.stdout
    assert "already ended as failed" in again.stderr
    assert shown.state == "failed"


def test_retention_is_foreseen_and_then_done(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELPRESS_RETENTION", '{"*": {"unused_datasets_days": 30}}')
    with connect(Settings(data_dir=data)) as resources, resources.database.transaction() as tx:
        columns = {"document": {"size_bytes": 4_200}, "sha256": "a" * 64}
        records.add(tx, datasets, "tenant", "dst_1", columns)
        tx.execute(datasets.update().values(created_at=0.0))

    foreseen = [run(data, "admin", "retention", "--dry-run") for _ in range(2)]
    done = run(data, "admin", "retention", "--json")
    after = run(data, "admin", "retention")

    assert [one.exit_code for one in (*foreseen, done, after)] == [0, 0, 0, 0]
    assert foreseen[1].stdout.splitlines()[-2].split() == ["tenant", "datasets", "1", "4.2", "k"]
    assert json.loads(done.stdout) == [{"tenant": "tenant", "noun": "datasets", "count": 1, "bytes": 4_200}]
    assert after.stdout == "nothing went\n"


def test_doctor_exits_with_1_when_something_keeps_work_from_being_done(data: Path) -> None:
    found = run(data, "doctor")  # no broker runs

    assert found.exit_code == 1
    assert "it does not answer: no worker hears of work" in found.stdout
    assert "children are confined at level" in found.stdout


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    found = run(tmp_path / "none", "admin", "queues")

    assert found.exit_code == 5
    assert "There is no database" in found.stderr
    assert not (tmp_path / "none").exists()
