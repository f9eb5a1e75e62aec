"""Checkpoints between child and stores: kept one at a time, given to the next attempt, and never in the way."""

from pathlib import Path
from typing import Any

import pytest

from app.contracts.checkpoint import Position
from app.contracts.tasks import ORDER, CompressOrder, Kept
from app.errors import DependencyUnavailable
from app.resources import Resources
from app.stores import checkpoints, work
from app.stores.blobs import Blobs
from tests.stand_in import stack
from tests.workers.compute.orders import compress
from workers.heartbeat import Heartbeat
from workers.keeping import Keeper, with_earlier

POSITION = Position(step=1, steps=2, technique="retrain", epoch=1, epochs=2)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    for name in ("in", "out"):
        (tmp_path / "attempt" / name).mkdir(parents=True)
    return tmp_path / "attempt"


def order() -> CompressOrder:
    found = ORDER.validate_python(compress({"technique": "retrain"}))
    assert isinstance(found, CompressOrder)
    return found


def leave(scratch: Path, number: int) -> Kept:
    (scratch / "out" / f"checkpoint-{number}").write_bytes(b"kept %d" % number)
    return Kept(file=f"checkpoint-{number}", position=POSITION)


def keep(resources: Resources, held: work.Claim, scratch: Path, *numbers: int) -> None:
    with Keeper(resources, held, scratch) as keeper:
        for number in numbers:
            keeper.take(leave(scratch, number))
            keeper.close(20)


def given(resources: Resources, held: work.Claim, scratch: Path) -> tuple[Any, list[str]]:
    """Return the order that the next attempt gets, and what people are told."""
    pulse = Heartbeat(resources.database, held, 30.0, 60.0)
    found = with_earlier(resources, held, order(), scratch, pulse)
    pulse.flush()
    return found, [entry["message"] for entry in stack.history(resources, held.id) if entry["kind"] == "log"]


def stored(resources: Resources) -> set[Path]:
    return {path for path in (resources.settings.data_dir / "blobs").rglob("*") if path.is_file()}


def test_next_attempt_gets_what_was_left(resources: Resources, held: work.Claim, scratch: Path) -> None:
    keep(resources, held, scratch, 1)
    found, told = given(resources, held, scratch)
    assert (scratch / found.checkpoint).read_bytes() == b"kept 1"
    assert told == []
    assert not list((scratch / "out").iterdir())


def test_one_checkpoint_is_stored_at_a_time(resources: Resources, held: work.Claim, scratch: Path) -> None:
    for number in (1, 2, 3):
        keep(resources, held, scratch, number)
    (only,) = stored(resources)
    assert only.read_bytes() == b"kept 3"


def test_nothing_is_given_when_nothing_was_left(resources: Resources, held: work.Claim, scratch: Path) -> None:
    assert given(resources, held, scratch) == (order(), [])


@pytest.mark.parametrize(("damage", "what"), [("changed", "is damaged"), ("removed", "is gone")])
def test_work_starts_from_the_beginning_when_the_bytes_are_not_there(
    damage: str, what: str, resources: Resources, held: work.Claim, scratch: Path
) -> None:
    keep(resources, held, scratch, 1)
    (blob,) = stored(resources)
    if damage == "changed":
        blob.write_bytes(b"other")
    else:
        blob.unlink()
    found, told = given(resources, held, scratch)
    assert found.checkpoint is None
    assert told == [f"the checkpoint {what}: the work starts from the beginning"]


def test_nothing_is_recorded_nor_stored_when_the_claim_is_lost(
    resources: Resources, held: work.Claim, scratch: Path
) -> None:
    with resources.database.transaction() as tx:
        work.release(tx, held)
    keep(resources, held, scratch, 1)
    assert stored(resources) == set()
    with resources.database.reading() as tx:
        assert checkpoints.find(tx, held.id) is None


def test_a_link_is_not_followed(resources: Resources, held: work.Claim, scratch: Path) -> None:
    (scratch / "out" / "checkpoint-1").symlink_to("/etc/passwd")
    with Keeper(resources, held, scratch) as keeper:
        keeper.take(Kept(file="checkpoint-1", position=POSITION))
        keeper.close(20)
    assert stored(resources) == set()


def test_next_one_is_stored_when_one_could_not_be(
    resources: Resources, held: work.Claim, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: object) -> None:
        raise DependencyUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(Blobs, "put_open", away)
        keep(resources, held, scratch, 1)
    assert stored(resources) == set()
    keep(resources, held, scratch, 2)
    assert len(stored(resources)) == 1


def test_work_of_another_kind_has_no_checkpoint(resources: Resources, held: work.Claim, scratch: Path) -> None:
    other = ORDER.validate_python({"kind": "check_model", "path": "in/model", "format": "onnx"})
    assert with_earlier(resources, held, other, scratch, Heartbeat(resources.database, held, 30.0, 60.0)) is other
