"""A short form of the rolling restart, and how a run of it is judged."""

import shutil
from collections.abc import Iterator

import pytest

from tests.faults.client import Client
from tests.faults.production import Site
from tests.faults.rolling import Reads, Rolling, outcome, roll


@pytest.fixture
def run() -> Iterator[Rolling]:
    found = Rolling(Site.__new__(Site), Client.__new__(Client), Reads("http://127.0.0.1:1"))
    found.reads.answered["worker-1"] = 20
    yield found
    found.reads._pool.shutdown()
    found.reads._http.close()


def test_run_holds_when_every_read_was_answered_and_every_job_succeeded(run: Rolling) -> None:
    run.reads.repeated["database"] = 3

    assert outcome(run, {"succeeded": 2}, []).holds


def test_run_does_not_hold_when_a_read_failed(run: Rolling) -> None:
    run.reads.failed["gateway-1"] = 1

    assert not outcome(run, {"succeeded": 2}, []).holds


@pytest.mark.parametrize("states", [{"succeeded": 1, "failed": 1}, {}])
def test_run_does_not_hold_when_a_job_did_not_succeed(run: Rolling, states: dict[str, int]) -> None:
    assert not outcome(run, states, []).holds


def test_run_does_not_hold_when_a_rule_of_the_history_is_broken(run: Rolling) -> None:
    found = outcome(run, {"succeeded": 2}, ["kept job_1: never seen at an end"])

    assert not found.holds
    assert "some lost" in found.text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_fails_when_a_gateway_and_a_worker_are_restarted() -> None:
    if shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin") is None:
        pytest.skip("no haproxy here")

    found = roll(4, reads_per_s=5, parts=("gateway-1", "worker-1"))

    assert found.holds, found.text
