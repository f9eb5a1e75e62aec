"""Spans on their way to a collector: what is understood, sampled, sent, dropped, and how long anybody waits for it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError

from app import otlp
from app.main import create_app
from app.otlp import Otlp
from app.settings import Settings
from app.stores import work
from app.traces import Drops, NoSpan, Off, Opening, open_traces, trace_id, understood
from tests.app.seeds import ONNX, RAW
from tests.modelpress.conftest import free_port
from tests.stand_in.collector import Collector, Got
from tests.stand_in.stack import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = f"00-{TRACE}-b7ad6b7169203331-01"


def traces(url: str, **changes: object) -> Otlp:
    return Otlp(Settings.model_validate({"traces_url": url, **changes}), "modelpress-test")


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        (GIVEN, GIVEN),
        (GIVEN[:-2] + "00", GIVEN[:-2] + "00"),
        (GIVEN[:-2] + "03", GIVEN),  # of the flags only the first is ours to hand on
        (f" {GIVEN} ", GIVEN),
        ("cc" + GIVEN[2:] + "-what-the-future-will-be-like", GIVEN),
        (None, None),
        ("", None),
        (GIVEN + "-more", None),
        ("ff" + GIVEN[2:], None),
        (GIVEN.upper(), None),
        (GIVEN.replace(TRACE, "0" * 32), None),
        (GIVEN.replace("b7ad6b7169203331", "0" * 16), None),
        (GIVEN[:-1], None),
        (GIVEN + "\n", GIVEN),
        ("x" * 100_000, None),
    ],
)
def test_traceparent_is_read_as_the_standard_has_it(header: str | None, meant: str | None) -> None:
    assert understood(header) == meant


def test_span_arrives_with_what_was_told_of_it() -> None:
    with Collector() as collector:
        sender = traces(collector.url, traces_headers="authorization=Bearer%20abc,x-scope=team a")
        opening = Opening("outer", GIVEN, "server", {"a": 1}, 1_000.0, span_id="00000000000000aa", links=(GIVEN,))
        with sender.begin(opening) as outer:
            outer.begin("inner").end()
            outer.note({"b": True})
            outer.rename("renamed")
            outer.fail("broken")
        sender.close()
    inner, outer_got = sorted(collector.spans, key=lambda span: span.name)

    assert (outer_got.name, outer_got.kind, outer_got.trace, outer_got.id) == (
        "renamed",
        "server",
        TRACE,
        "aa".zfill(16),
    )
    assert (outer_got.parent, outer_got.links, outer_got.start) == (GIVEN[36:52], [GIVEN[36:52]], 1_000.0)
    assert outer_got.attributes == {"a": 1, "b": True, "error.type": "broken"}
    assert outer_got.failed
    assert (inner.parent, inner.failed, inner.service) == (outer_got.id, False, "modelpress-test")
    assert collector.headers[0]["authorization"] == "Bearer abc"
    assert collector.headers[0]["x-scope"] == "team a"
    assert sender.dropped == 0


def test_span_fails_by_the_name_of_what_was_raised() -> None:
    with Collector() as collector:
        sender = traces(collector.url)
        with pytest.raises(KeyError), sender.begin(Opening("x", GIVEN)):
            raise KeyError
        sender.close()

    assert collector.spans[0].attributes == {"error.type": "KeyError"}


@pytest.mark.parametrize(
    ("parent", "share", "arrive"),
    [(None, 1.0, 20), (None, 0.0, 0), (GIVEN, 0.0, 20), (GIVEN[:-2] + "00", 1.0, 0)],
    ids=["all", "none", "client wants it", "client does not"],
)
def test_client_decides_what_is_recorded_else_the_share_does(parent: str | None, share: float, arrive: int) -> None:
    with Collector() as collector:
        sender = traces(collector.url, traces_share=share)
        for _ in range(20):
            sender.begin(Opening("x", parent, root=True)).end()
        sender.close()

    assert len(collector.spans) == arrive


def test_what_belongs_to_no_trace_begins_none() -> None:
    sender = traces("http://127.0.0.1:1")
    assert isinstance(sender.begin(Opening("x", None)), NoSpan)
    sender.close()


@pytest.mark.parametrize("status", [None, 400, 503])
def test_spans_that_nobody_takes_are_dropped_and_counted_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    monkeypatch.setattr(otlp, "_MOST_WAITING", 60)
    monkeypatch.setattr(otlp, "_AT_ONCE", 30)
    with Collector(status=status or 200) as collector:
        url = collector.url if status else f"http://127.0.0.1:{free_port()}"
        sender = traces(url)
        registry = CollectorRegistry()
        registry.register(Drops(sender))
        began = time.monotonic()
        for _ in range(5_000):
            sender.begin(Opening("x", GIVEN)).end()
        took_s = time.monotonic() - began
        until(lambda: sender.dropped == 5_000, 60)
        began = time.monotonic()
        sender.close()

    assert took_s < 3.0  # 0.3 s on a quiet machine
    assert time.monotonic() - began < 1.5
    assert b"modelpress_spans_dropped_total 5000.0" in generate_latest(registry)


def test_shutdown_waits_a_second_at_most_for_a_slow_collector() -> None:
    with Collector(delay_s=2.5) as collector:
        sender = traces(collector.url)
        sender.begin(Opening("x", GIVEN)).end()
        began = time.monotonic()
        sender.close()
        took_s = time.monotonic() - began

    assert 0.9 < took_s < 1.6


@pytest.mark.parametrize(
    "url", ["collector:4318", "ftp://collector", "http://user:secret@collector:4318", "http:// x", "http://"]
)
def test_addresses_that_cannot_be_meant_are_refused_without_being_told(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(traces_url=url)

    assert "secret" not in str(refused.value)


def test_traces_are_off_unless_an_address_is_given_and_for_commands() -> None:
    assert isinstance(open_traces(Settings(), "gateway"), Off)
    assert isinstance(open_traces(Settings(traces_url="http://127.0.0.1:1"), None), Off)


def test_gateway_loads_no_library_of_traces_while_they_are_off(tmp_path: Path) -> None:
    code = """
import sys
from app.main import create_app
from app.settings import Settings
create_app(Settings(data_dir=sys.argv[1]))
late = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "google.protobuf", "requests")
print([name for name in late if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@dataclass(frozen=True)
class Traced:
    app: FastAPI
    collector: Collector

    async def call(self, method: str, path: str, **given: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **given)

    def sent(self, count: int) -> list[Got]:
        until(lambda: len(self.collector.spans) >= count, 10)
        return sorted(self.collector.spans, key=lambda span: span.start)


@pytest.fixture
def traced(settings: Settings) -> Iterator[Traced]:
    with Collector() as collector:
        app = create_app(settings.model_copy(update={"traces_url": collector.url}))
        with app.state.resources:
            yield Traced(app, collector)


async def test_request_continues_the_clients_trace_and_the_row_keeps_it(traced: Traced) -> None:
    answer = await traced.call("POST", "/v1/models", headers={**RAW, "traceparent": GIVEN}, content=ONNX)
    server, send = traced.sent(2)
    with traced.app.state.resources.database.reading() as tx:
        row = work.read(tx, answer.json()["id"])

    assert row is not None
    assert row.trace == answer.headers["traceresponse"] == f"00-{TRACE}-{server.id}-01"
    assert (server.name, server.kind, server.parent) == ("POST /v1/models", "server", GIVEN[36:52])
    assert server.attributes == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "url.path": "/v1/models",
        "http.route": "/v1/models",
        "http.response.status_code": 202,
        "modelpress.tenant.id": "default",
        "modelpress.request.id": answer.headers["x-request-id"],
    }
    assert (send.name, send.kind, send.parent, send.failed) == ("send checks", "producer", server.id, True)
    assert send.attributes["messaging.message.id"] == answer.json()["id"]
    assert send.attributes["error.type"] == "OperationalError"  # there is no broker here


async def test_what_only_reads_is_traced_where_the_client_says_so(traced: Traced) -> None:
    silent = await traced.call("GET", "/v1/jobs")
    assert "traceresponse" not in silent.headers

    told = await traced.call("GET", "/v1/jobs/job_0", headers={"traceparent": GIVEN})

    (span,) = traced.sent(1)
    assert trace_id(told.headers["traceresponse"]) == span.trace == TRACE
    assert (span.name, span.failed) == ("GET /v1/jobs/{job_id}", False)  # 404 is an answer


async def test_request_without_a_trace_begins_one_that_holds_no_secret(traced: Traced) -> None:
    headers = {"authorization": "Bearer mp_secret", "traceparent": "nonsense"}
    answer = await traced.call("POST", "/v1/jobs?key=hidden", headers=headers, json={"model": "a-model-of-mine"})

    (span,) = traced.sent(1)
    assert answer.headers["traceresponse"] == f"00-{span.trace}-{span.id}-01"
    assert span.parent == ""
    for word in (b"mp_secret", b"hidden", b"a-model-of-mine"):
        assert word not in b"".join(traced.collector.bodies)


async def test_answers_tell_no_trace_while_they_are_off(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models", headers={**RAW, "traceparent": GIVEN}, content=ONNX)

    assert "traceresponse" not in answer.headers
