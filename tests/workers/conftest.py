"""The stores of an installation in a folder of its own, and a piece of work that was claimed in them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contracts.base import new_id
from app.contracts.tasks import Queue, WorkKind
from app.resources import Resources
from app.stores import work
from tests.stand_in import stack


@pytest.fixture
def resources(tmp_path: Path) -> Iterator[Resources]:
    with stack.open_stores(stack.settings_for(tmp_path)) as found:
        yield found


@pytest.fixture
def held(resources: Resources) -> work.Claim:
    job = new_id("job")
    with resources.database.transaction() as tx:
        work.enqueue(tx, work.Ticket(job, "tenant", WorkKind.COMPRESS, Queue.CPU, 60))
        found = work.claim(tx, job, "worker", 30.0, 3)
    assert found is not None
    return found
