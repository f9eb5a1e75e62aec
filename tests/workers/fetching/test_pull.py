"""A fetch from its row to the check's, against a real server and real stores, without a broker."""

import hashlib
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.contracts.base import new_id
from app.contracts.source import HttpsSource, S3Source, origin_of
from app.contracts.tasks import Queue, WorkKind
from app.outside import SourceStore
from app.resources import Resources
from app.stores import fetches, records, work
from app.stores.tables import fetches as fetches_table
from app.stores.tables import models
from tests.stand_in import source as stand_in
from tests.stand_in import stack
from tests.stand_in.s3 import S3
from workers.child import Program
from workers.fetching import download, https
from workers.supervisor import Rules
from workers.tasks import Worker, perform

CONTENT = bytes(range(256)) * 4_000
PROGRAM = Program("stand_in_child", (stack.HERE,))


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_WAITS_S", (0.0,) * 5)


@pytest.fixture
def source() -> Iterator[stand_in.Source]:
    with stand_in.serving(CONTENT) as found:
        yield found


def asked(resources: Resources, source: HttpsSource | S3Source, max_run_s: int = 60) -> str:
    model_id = new_id("mdl")
    origin = origin_of(source).model_dump(mode="json", exclude_none=True)
    document = {"name": "m", "format": "onnx", "tags": {}, "size_bytes": 0, "origin": origin}
    with resources.database.transaction() as tx:
        records.add(tx, models, "tenant", model_id, {"document": document, "sha256": ""})
        work.enqueue(tx, work.Ticket(model_id, "tenant", WorkKind.FETCH, Queue.EGRESS, max_run_s))
        fetches.begin(tx, model_id, source)
    return model_id


def at(source: stand_in.Source, **fields: Any) -> HttpsSource:
    return HttpsSource.model_validate({"type": "https", "url": source.url, **fields})


def worker_of(resources: Resources) -> Worker:
    return Worker(resources, Rules(resources.settings, PROGRAM, threading.Event()), "test")


def fetched(resources: Resources, source: HttpsSource | S3Source, max_run_s: int = 60) -> Any:
    model_id = asked(resources, source, max_run_s)
    perform(worker_of(resources), model_id)
    assert not list(resources.settings.scratch.iterdir())
    return stack.read(resources, model_id)


def problem(row: Any) -> str:
    assert row.state == "failed"
    return row.error["type"].rpartition("/")[2]


def waiting(resources: Resources) -> int:
    with resources.database.reading() as tx:
        return len(tx.execute(fetches_table.select()).all())


def stored(resources: Resources) -> list[str]:
    return [found.key for folder in ("sha256", "tmp") for found in resources.blobs.listed(folder)]


def assert_arrived(resources: Resources, row: Any, content: bytes = CONTENT) -> None:
    digest = hashlib.sha256(content).hexdigest()
    assert (row.state, row.kind, row.queue, row.losses) == ("queued", "check_model", "checks", 0)
    with resources.database.reading() as tx:
        model = records.get(tx, models, "tenant", row.id)
    assert (model["sha256"], model["document"]["size_bytes"]) == (digest, len(content))
    assert resources.blobs.exists(digest)
    assert waiting(resources) == 0


def test_what_was_pulled_waits_for_its_check(resources: Resources, source: stand_in.Source) -> None:
    row = fetched(resources, at(source, sha256=hashlib.sha256(CONTENT).hexdigest()))
    assert_arrived(resources, row)
    assert row.max_run_s == resources.settings.check_seconds
    assert source.asked[0]["host"] == source.url.split("/")[2]


@pytest.mark.parametrize("sized", [True, False])
def test_a_broken_source_is_gone_on_with_where_it_broke(
    resources: Resources, source: stand_in.Source, sized: bool
) -> None:
    source.breaks, source.sized = (2, True) if sized else (0, False)
    assert_arrived(resources, fetched(resources, at(source)))
    assert len(source.asked) == source.breaks + (3 if sized else 1)
    if sized:
        assert [int(one["range"][6:-1]) for one in source.asked[1:]] == [len(CONTENT) // 2, len(CONTENT) * 3 // 4]


def test_a_source_without_a_tag_is_begun_again(resources: Resources, source: stand_in.Source) -> None:
    source.breaks, source.etag = 2, False
    assert_arrived(resources, fetched(resources, at(source)))
    assert not any("range" in one for one in source.asked)


def test_a_source_that_changed_meanwhile_is_begun_again(
    resources: Resources, source: stand_in.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.breaks, other = 1, CONTENT[::-1]

    async def change(_wait_s: float) -> None:
        source.content = other

    monkeypatch.setattr(download.asyncio, "sleep", change)
    assert_arrived(resources, fetched(resources, at(source)), other)


def test_a_source_that_is_away_for_a_while_is_asked_again(resources: Resources, source: stand_in.Source) -> None:
    source.fails = [503, 500, 429, 502, 504]
    assert_arrived(resources, fetched(resources, at(source)))


def test_a_source_that_stays_away_is_given_up(resources: Resources, source: stand_in.Source) -> None:
    source.fails = [503] * 20
    row = fetched(resources, at(source))
    assert (problem(row), row.error["retryable"]) == ("source-unreachable", True)
    assert (len(source.asked), waiting(resources), stored(resources)) == (6, 0, [])


def test_a_source_that_always_breaks_off_without_a_tag_is_given_up(
    resources: Resources, source: stand_in.Source
) -> None:
    source.breaks, source.etag = 50, False
    assert problem(fetched(resources, at(source))) == "source-unreachable"
    assert stored(resources) == []


@pytest.mark.parametrize("status", [401, 403, 404, 410, 304])
def test_a_source_that_refuses_is_asked_once(resources: Resources, source: stand_in.Source, status: int) -> None:
    source.fails = [status]
    row = fetched(resources, at(source))
    assert (problem(row), len(source.asked)) == ("source-refused", 1)
    assert str(status) in row.error["detail"]


def test_other_bytes_than_asked_for_are_not_kept(resources: Resources, source: stand_in.Source) -> None:
    assert problem(fetched(resources, at(source, sha256="0" * 64))) == "digest-mismatch"
    assert stored(resources) == []


@pytest.mark.parametrize("sized", [True, False])
def test_a_source_over_the_limit_is_left(tmp_path: Path, source: stand_in.Source, sized: bool) -> None:
    source.sized = sized
    with stack.open_stores(stack.settings_for(tmp_path, max_upload_bytes=100_000)) as resources:
        assert problem(fetched(resources, at(source))) == "payload-too-large"
        assert stored(resources) == []


def test_a_tenant_pulls_no_more_than_it_may_store(tmp_path: Path, source: stand_in.Source) -> None:
    with stack.open_stores(stack.settings_for(tmp_path, max_stored_bytes_per_tenant=100_000)) as resources:
        assert problem(fetched(resources, at(source))) == "payload-too-large"


@pytest.mark.parametrize(("content", "name"), [(b"", "validation-error"), (b"\x80\x04K\x01.", "format-unsafe")])
def test_what_is_no_model_is_refused(resources: Resources, source: stand_in.Source, content: bytes, name: str) -> None:
    source.content = content
    assert problem(fetched(resources, at(source))) == name


def test_redirects_are_followed_five_times(resources: Resources, source: stand_in.Source) -> None:
    source.redirects = [source.url, "/there", "there?x=1", source.url, source.url]
    assert_arrived(resources, fetched(resources, at(source)))
    source.redirects = [source.url] * 6
    assert problem(fetched(resources, at(source))) == "source-refused"


@pytest.mark.parametrize("target", ["ftp://localhost/", "http://a:b@localhost/", "https://[", "file:///etc/passwd"])
def test_a_redirect_is_examined_like_the_address(resources: Resources, source: stand_in.Source, target: str) -> None:
    source.redirects = [target]
    assert problem(fetched(resources, at(source))) == "url-forbidden"


def test_a_private_address_is_not_contacted(tmp_path: Path, source: stand_in.Source) -> None:
    with stack.open_stores(stack.settings_for(tmp_path, allow_private_urls=False)) as resources:
        assert problem(fetched(resources, at(source))) == "url-forbidden"
        assert source.asked == []


def test_a_name_without_an_address_is_unreachable(resources: Resources) -> None:
    nowhere = HttpsSource.model_validate({"type": "https", "url": "http://nowhere.invalid/m.onnx"})
    assert problem(fetched(resources, nowhere)) == "source-unreachable"


def test_the_certificate_is_checked(resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = stand_in.make_certificate(tmp_path)
    with stand_in.serving(CONTENT, certificate) as source:
        assert problem(fetched(resources, at(source))) == "source-unreachable"
        monkeypatch.setattr(https, "tls", lambda: ssl.create_default_context(cafile=str(tmp_path / "c.pem")))
        assert_arrived(resources, fetched(resources, at(source)))


def test_a_silent_source_is_asked_again_and_given_up(tmp_path: Path, source: stand_in.Source) -> None:
    source.pause_s = 2.0
    with stack.open_stores(stack.settings_for(tmp_path, fetch_idle_s=0.2)) as resources:
        source.etag = False
        assert problem(fetched(resources, at(source))) == "source-unreachable"


def test_a_slow_source_is_left_at_the_time_limit(resources: Resources, source: stand_in.Source) -> None:
    source.pause_s = 0.3
    began = time.monotonic()
    assert problem(fetched(resources, at(source), max_run_s=1)) == "time-limit-exceeded"
    assert time.monotonic() - began < 4


def begun(resources: Resources, source: stand_in.Source) -> tuple[Worker, str, threading.Thread]:
    source.pause_s = 0.3
    model_id, worker = asked(resources, at(source)), worker_of(resources)
    thread = threading.Thread(target=perform, args=(worker, model_id))
    thread.start()
    stack.until(lambda: stack.read(resources, model_id).progress > 0)
    return worker, model_id, thread


def test_progress_is_told_and_a_cancel_is_heard(resources: Resources, source: stand_in.Source) -> None:
    _worker, model_id, thread = begun(resources, source)
    assert stack.read(resources, model_id).stage == "fetching"
    with resources.database.transaction() as tx:
        work.request_cancel(tx, model_id)
    thread.join(5)
    assert stack.read(resources, model_id).state == "cancelled"
    assert (waiting(resources), stored(resources)) == (0, [])


def test_a_drain_gives_the_fetch_back(resources: Resources, source: stand_in.Source) -> None:
    worker, model_id, thread = begun(resources, source)
    worker.rules.drain.set()
    thread.join(5)
    row = stack.read(resources, model_id)
    assert (row.state, row.losses, row.kind, waiting(resources)) == ("queued", 0, "fetch", 1)
    source.pause_s = 0
    perform(worker_of(resources), model_id)
    assert_arrived(resources, stack.read(resources, model_id))


def test_a_displaced_fetch_records_nothing(resources: Resources, source: stand_in.Source) -> None:
    _worker, model_id, thread = begun(resources, source)
    with resources.database.transaction() as tx:
        tx.execute(work.work.update().values(fence="another"))
    thread.join(10)
    row = stack.read(resources, model_id)
    assert (row.state, row.fence, row.kind) == ("running", "another", "fetch")
    assert stored(resources) == []


def in_store(**fields: str) -> S3Source:
    return S3Source.model_validate({"type": "s3", "store": "lab", "key": "deep/m.onnx", **fields})


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[S3, Resources]]:
    with S3() as s3:
        s3.store.flaky = False
        s3.store.objects["models/trained/deep/m.onnx"] = CONTENT
        given = {"endpoint": s3.environment["AWS_ENDPOINT_URL"], "aws_region": "us-east-1"}
        given |= {"aws_access_key_id": "name", "aws_secret_access_key": "very-secret"}
        store = SourceStore(url="s3://models/trained", tenants=["tenant"], options=given)  # type: ignore[arg-type]
        settings = stack.settings_for(
            tmp_path, source_stores={"lab": store, "theirs": SourceStore(url=store.url, tenants=["b"])}
        )
        with stack.open_stores(settings) as resources:
            yield s3, resources


def test_an_object_is_pulled_by_the_name_of_its_store(bucket: tuple[S3, Resources]) -> None:
    _s3, resources = bucket
    assert_arrived(resources, fetched(resources, in_store()))


def test_an_unreliable_store_is_gone_on_with(bucket: tuple[S3, Resources]) -> None:
    s3, resources = bucket
    s3.store.flaky, s3.store.damages = True, False
    for _turn in range(4):  # one read in seven breaks off, one call in three fails
        assert_arrived(resources, fetched(resources, in_store()))


def test_a_store_that_is_down_is_given_up(bucket: tuple[S3, Resources]) -> None:
    s3, resources = bucket
    s3.store.down = True
    assert problem(fetched(resources, in_store())) == "source-unreachable"


@pytest.mark.parametrize("fields", [{"key": "missing.onnx"}, {"store": "theirs"}, {"store": "unknown"}])
def test_what_a_store_does_not_give_this_tenant_is_refused(
    bucket: tuple[S3, Resources], fields: dict[str, str]
) -> None:
    _s3, resources = bucket
    row = fetched(resources, in_store(**fields))
    assert problem(row) == "source-refused"
    assert "secret" not in str(row.error)
