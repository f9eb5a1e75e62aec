"""A part of the hostile corpus against a real service; `python -m bench.hostile` sends all of it."""

import random
from collections.abc import Iterator

import pytest

from tests.hostile import calls, jobs, kernel_rows, uploads
from tests.hostile.corpus import corpus
from tests.hostile.rows import Row
from tests.hostile.service import Service, running

SEED = 20_261_127
PARTS = {"uploads": (uploads.rows, 45), "nodes": (kernel_rows.rows, 15), "calls": (calls.rows, 60)}
JOB = "job, -1 among the rows"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running() as found:
        yield found


def drawn(part: str) -> list[Row]:
    rows, count = PARTS[part]
    return random.Random(SEED).sample(rows(), count)


def test_strangers_are_answered_by_name_and_disturb_nobody(service: Service) -> None:
    before = service.control()
    worker = service.parts["worker"].pid
    sent = [*drawn("uploads"), *drawn("nodes"), *drawn("calls"), *(row for row in jobs.rows() if row.name == JOB)]
    assert [fault for row in sent if (fault := row.fault(row.send(service)))] == []
    assert service.control() == before
    assert service.parts["worker"].pid == worker
    assert service.troubles() == []


def test_the_corpus_holds_each_row_once_and_enough_of_them() -> None:
    names = [row.name for row in corpus()]
    assert len(names) == len(set(names)) > 96


def test_a_wrong_answer_is_a_fault(service: Service) -> None:
    """The rows above would pass anything if a fault were none."""
    row = uploads.plain_files()[0]
    answer = row.send(service)
    assert row.fault(answer) == ""
    assert Row(row.name, row.send, 201).fault(answer)
    assert Row(row.name, row.send, row.status, ("dataset-malformed",)).fault(answer)


def test_a_secret_that_comes_out_is_seen(service: Service) -> None:
    leaked = service.settings.data_dir / "leaked"
    leaked.write_text(f"x{service.canary}y")
    assert str(leaked) in service.troubles()
    leaked.unlink()
