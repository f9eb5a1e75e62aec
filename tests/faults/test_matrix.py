"""Four of the faults that `make soak` runs, with one cluster of real processes between them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import broker_faults, worker_faults  # noqa: F401 - they enter their faults
from tests.faults.cluster import Cluster, running
from tests.faults.registry import FAULTS, execute

SUBSET = ("R1", "R2", "R6", "R12")  # child killed, worker killed, broker flushed, worker stopped and let go on
RUNS = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("number", range(RUNS))
@pytest.mark.parametrize("name", SUBSET)
def test_no_job_is_lost_when_a_part_fails(name: str, number: int, cluster: Cluster, tmp_path: Path) -> None:
    outcome = execute(FAULTS[name], cluster, number, number, tmp_path)
    assert outcome.failure == ""
