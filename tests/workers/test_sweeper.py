import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contracts.trigger import TriggerCreate
from app.errors import DependencyUnavailable
from app.resources import Resources, connect
from app.services import triggers
from app.services.caller import Caller
from app.settings import Retention
from app.stores import work
from app.stores.tables import jobs, models, schedules
from tests.app.acting_worker import ActingWorker
from tests.stand_in import stack
from workers.sweeper import Sweep, collect_once, repeat, retire_once, sweep_once


@pytest.fixture
def resources() -> Iterator[Resources]:
    with stack.data_folder() as folder, stack.open_stores(stack.settings_for(folder, ring_again_s=0)) as found:
        broker = stack.start_broker(folder)
        yield found
        stack.kill(broker)


def test_lost_doorbells_are_rung_once_and_not_again_while_they_wait(resources: Resources) -> None:
    for _ in range(3):
        stack.add_model(resources, {}, ring=False)
    assert [sweep_once(resources) for _ in range(3)] == [3, 0, 0]


def test_expired_work_is_rung_at_once(resources: Resources) -> None:
    work_id = stack.add_model(resources, {}, ring=False)
    with resources.database.transaction() as tx:
        work.claim(tx, work_id, "gone", -1, 3)
    assert sweep_once(resources) == 1


def test_nothing_is_lost_when_the_broker_is_away(tmp_path: Path) -> None:
    with stack.open_stores(stack.settings_for(tmp_path, ring_again_s=0)) as resources:
        stack.add_model(resources, {}, ring=False)
        assert [sweep_once(resources) for _ in range(2)] == [0, 0]


def test_a_sweeper_that_dies_with_a_due_time_in_its_hand_leaves_it_to_the_next(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    settings = stack.settings_for(tmp_path, fault_file=fault)
    with stack.open_stores(settings) as resources:
        model = stack.add_model(resources, {}, ring=False)
        ActingWorker(resources).accept_model(model)
        body = {"name": "nightly", "kind": "schedule", "schedule": {"cron": "0 3 * * *"}, "model": model}
        recipe = {"steps": [{"technique": "share_weights"}]}
        trigger = triggers.create(
            Caller("tenant", resources), TriggerCreate.model_validate({**body, "recipe": recipe})
        ).id
        with resources.database.transaction() as tx:
            tx.execute(schedules.update().values(next_at=86_400.0, try_at=86_400.0))
        fault.write_text("taken SIGKILL", encoding="ascii")
        assert stack.start_sweeper(settings).wait(60) == -signal.SIGKILL
        assert _jobs(resources) == []

        following = stack.start_sweeper(settings)
        stack.until(lambda: _jobs(resources), 60)
        assert stack.kill(following, signal.SIGTERM) == 0

        assert _jobs(resources) == [trigger]


def _jobs(resources: Resources) -> list[str]:
    with resources.database.reading() as tx:
        return [row.trigger_id for row in tx.execute(jobs.select())]


@pytest.mark.parametrize("dry_run", [True, False])
def test_blobs_without_a_record_are_collected(tmp_path: Path, dry_run: bool) -> None:
    with stack.open_stores(stack.settings_for(tmp_path, collect_dry_run=dry_run)) as resources:
        sha256 = stack.keep_bytes(resources, b"orphan")
        collect_once(resources, clock=lambda: time.time() + 90_000)
        assert resources.blobs.exists(sha256) is dry_run


def test_records_that_were_kept_for_long_enough_go(tmp_path: Path) -> None:
    rules = {"tenant": Retention(unused_models_days=30)}
    with stack.open_stores(stack.settings_for(tmp_path, retention=rules)) as resources:
        old, young = (stack.add_model(resources, {}, ring=False) for _ in range(2))
        for model in (old, young):
            ActingWorker(resources).accept_model(model)
        with resources.database.transaction() as tx:
            tx.execute(models.update().where(models.c.id == old).values(created_at=0.0))

        assert [retire_once(resources, threading.Event()) for _ in range(2)] == [1, 0]
        with resources.database.reading() as tx:
            assert [row.id for row in tx.execute(models.select())] == [young]


def test_the_sweeper_goes_on_after_an_outage_or_a_fault() -> None:
    stop, faults = threading.Event(), [DependencyUnavailable(), DependencyUnavailable()]
    done = []

    def action() -> None:
        if faults:
            raise faults.pop()
        done.append(1)
        stop.set()

    repeat(action, 0.01, stop)
    assert done == [1]


def test_leases_that_ran_out_while_the_database_was_away_may_be_renewed(tmp_path: Path) -> None:
    with stack.open_stores(stack.settings_for(tmp_path, lease_s=0.3)) as resources:
        work_id = stack.add_model(resources, {}, ring=False)
        with resources.database.transaction() as tx:
            held = work.claim(tx, work_id, "well", -1, 3)
        assert held is not None
        sweep = Sweep(resources, threading.Event())
        sweep.was_away = True

        def renew() -> None:
            with resources.database.transaction() as tx:
                work.renew(tx, held, 60)

        heartbeat = threading.Timer(0.5, renew)
        heartbeat.start()
        sweep()
        heartbeat.join()
        assert stack.read(resources, work_id).state == "running"
        assert not sweep.was_away


def test_a_sweep_that_found_no_database_waits_after_it(tmp_path: Path) -> None:
    with connect(stack.settings_for(tmp_path, database_url="postgresql://nobody@127.0.0.1:1/none")) as away:
        sweep = Sweep(away, threading.Event())
        with pytest.raises(DependencyUnavailable):
            sweep()
        assert sweep.was_away
