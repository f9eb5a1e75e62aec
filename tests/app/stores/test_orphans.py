import io
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.contracts.base import new_id
from app.contracts.tasks import Queue, WorkKind
from app.stores import orphans, records, work
from app.stores.blobs import Blobs, address, zstd_address
from app.stores.database import Database
from app.stores.staging import Segment
from app.stores.tables import artifacts, checkpoints, datasets, models, uploads
from tests.app.stores import searching

DAY_S = 86_400.0
NOW = time.time()


@pytest.fixture(params=["memory", "file"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return Blobs.open("memory:///" if request.param == "memory" else f"file://{tmp_path}/blobs")


def stored(blobs: Blobs, content: bytes) -> str:
    return blobs.put_open(io.BytesIO(content)).sha256


def with_zstd(blobs: Blobs, content: bytes, folder: Path) -> str:
    (folder / "plain").write_bytes(content)
    with (folder / "plain").open("rb") as file:
        sha256 = blobs.put_open(file).sha256
        blobs.make_zstd(sha256, file)
    return sha256


def keys(blobs: Blobs, prefix: str) -> set[str]:
    return {found.key for found in blobs.listed(prefix)}


def collect(database: Database, blobs: Blobs, days: float, *, dry_run: bool = False) -> orphans.Collected:
    return orphans.collect(database, blobs, NOW + days * DAY_S, dry_run=dry_run)


def add_dataset(database: Database, sha256: str) -> str:
    row_id = new_id("dts")
    with database.transaction() as tx:
        records.add(tx, datasets, "tenant", row_id, {"document": {}, "sha256": sha256})
    return row_id


def add_upload(database: Database, sha256: str | None) -> str:
    row_id = new_id("upl")
    columns = {"document": {}, "complete": sha256 is not None, "sha256": sha256, "expires_at": NOW}
    with database.transaction() as tx:
        records.add(tx, uploads, "tenant", row_id, columns)
    return row_id


def add_checkpoint(database: Database, sha256: str) -> None:
    ticket = work.Ticket(new_id("job"), "tenant", WorkKind.COMPRESS, Queue.CPU, max_run_s=60)
    row = {"work_id": ticket.id, "attempt": 1, "sha256": sha256, "size_bytes": 1, "position": {}, "at": NOW}
    with database.transaction() as tx:
        work.enqueue(tx, ticket)
        tx.execute(checkpoints.insert().values(row))


def test_what_a_search_keeps_for_its_candidates_stays_until_it_has_ended(database: Database, blobs: Blobs) -> None:
    sha256 = stored(blobs, b"logits")
    held = searching.begun(database, survey=searching.SURVEY.model_copy(update={"logits": sha256}))
    assert collect(database, blobs, 100) == orphans.Collected([], [], [])

    searching.end(database, held)
    assert collect(database, blobs, 100).trashed == [address(sha256)]


async def _bytes() -> AsyncIterator[bytes]:
    yield b"part"


def test_an_orphan_goes_to_the_trash_after_a_day_and_for_good_after_another(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    sha256 = with_zstd(blobs, b"orphan", tmp_path)
    both = {address(sha256), zstd_address(sha256)}
    assert collect(database, blobs, 0.9) == orphans.Collected([], [], [])

    assert set(collect(database, blobs, 1.1).trashed) == both
    assert not keys(blobs, "sha256")
    assert not keys(blobs, "zstd")
    assert collect(database, blobs, 2) == orphans.Collected([], [], [])
    assert len(collect(database, blobs, 2.2).deleted) == 2
    assert not keys(blobs, "trash")


def test_what_any_record_names_stays(database: Database, blobs: Blobs, tmp_path: Path) -> None:
    names = ("upload", "onnx", "tokenizer", "dataset", "packed", "dense", "finished upload", "checkpoint")
    digests = {name: with_zstd(blobs, name.encode(), tmp_path) for name in names}
    with database.transaction() as tx:
        columns = {
            "sha256": digests["upload"],
            "onnx_sha256": digests["onnx"],
            "tokenizer_sha256": digests["tokenizer"],
            "document": {},
        }
        records.add(tx, models, "tenant", new_id("mdl"), columns)
        files = {name: {"sha256": digests[name]} for name in ("packed", "dense")}
        row = {"document": {"variants": files}, "job_id": new_id("job")}
        records.add(tx, artifacts, "another tenant", new_id("art"), row)
    add_dataset(database, digests["dataset"])
    add_upload(database, digests["finished upload"])
    add_checkpoint(database, digests["checkpoint"])

    assert collect(database, blobs, 100) == orphans.Collected([], [], [])
    assert all(blobs.exists(sha256) and blobs.zstd_size(sha256) for sha256 in digests.values())


async def test_parts_stay_as_long_as_their_upload(database: Database, blobs: Blobs) -> None:
    kept = await blobs.extend(Segment(add_upload(database, None), 0), _bytes())
    gone = await blobs.extend(Segment(new_id("upl"), 0), _bytes())

    collect(database, blobs, 1.1)

    assert keys(blobs, "uploads") == {kept.key}
    assert kept.key != gone.key


async def test_a_half_written_object_goes(database: Database, blobs: Blobs) -> None:
    await blobs.put_part("tmp/abc", _bytes())
    assert collect(database, blobs, 1.1).trashed == ["tmp/abc"]


def test_what_is_named_again_comes_back(database: Database, blobs: Blobs) -> None:
    sha256 = stored(blobs, b"again")
    collect(database, blobs, 1.1)
    add_dataset(database, sha256)

    assert collect(database, blobs, 2.3).restored == [address(sha256)]
    assert blobs.exists(sha256)
    assert not keys(blobs, "trash")


def test_what_was_stored_again_leaves_the_trash(database: Database, blobs: Blobs) -> None:
    sha256 = stored(blobs, b"again")
    collect(database, blobs, 1.1)
    assert stored(blobs, b"again") == sha256
    add_dataset(database, sha256)

    collect(database, blobs, 2.3)

    assert keys(blobs, "") == {address(sha256)}


def test_bytes_stored_again_are_young_again(database: Database, tmp_path: Path) -> None:
    blobs = Blobs.open(f"file://{tmp_path}")
    sha256 = stored(blobs, b"again")
    before = next(blobs.listed("sha256")).at
    time.sleep(0.02)
    assert stored(blobs, b"again") == sha256

    assert next(blobs.listed("sha256")).at > before


def test_a_dry_run_changes_nothing(database: Database, blobs: Blobs) -> None:
    sha256 = stored(blobs, b"orphan")

    assert collect(database, blobs, 2, dry_run=True).trashed == [address(sha256)]
    assert blobs.exists(sha256)
