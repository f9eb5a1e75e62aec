"""`modelpress doctor` and `modelpress admin` over a data folder, as an operator runs them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.contracts.operations import WorkStanding
from app.contracts.tasks import Queue, WorkKind
from app.resources import connect
from app.settings import Settings
from app.stores import work
from app.stores.migrate import upgrade
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
