"""One trace from the client's `traceparent` to the child's stages, through real processes, as a collector gets it."""

import itertools
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from subprocess import Popen
from typing import Any

import httpx
import pytest

from app.contracts.job import JobCreate
from app.contracts.tasks import WorkKind
from app.resources import Resources
from app.stores.tables import jobs
from app.traces import trace_id
from tests.app.serving import serving
from tests.modelpress.conftest import free_port
from tests.stand_in import planner, stack
from tests.stand_in.collector import Collector, Got

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{CLIENT}-01"
STAGES = ["reading", "measuring the original", "1/1 share_weights", "measuring the result"]
SCRIPT = {"job": {"steps": 8, "pause_s": 0.05, "stages": STAGES}}
RECIPE = {"steps": [{"technique": "share_weights"}]}


@dataclass
class Service:
    resources: Resources
    url: str
    module: str
    workers: list[Popen[bytes]] = field(default_factory=list)

    def start_worker(self) -> None:
        self.workers.append(stack.start_worker(self.resources.settings, module=self.module))

    def submit(self, model: str, **more: Any) -> str:
        body = {"model": model, "device": "cpu", "recipe": RECIPE, **more}
        answer = httpx.post(f"{self.url}/v1/jobs", json=body, headers={"traceparent": GIVEN}, trust_env=False)
        assert answer.status_code == 202, answer.text
        assert trace_id(answer.headers["traceresponse"]) == TRACE
        return str(answer.json()["id"])

    def model(self, script: dict[str, Any]) -> str:
        headers = {"content-type": "application/octet-stream"}
        answer = httpx.post(f"{self.url}/v1/models", content=json.dumps(script), headers=headers, trust_env=False)
        assert answer.status_code == 202, answer.text
        found = str(answer.json()["id"])
        assert stack.ended(self.resources, found, 120).state == "succeeded"
        return found


@contextmanager
def service(traces_url: str, module: str = "tests.stand_in.worker") -> Iterator[Service]:
    with stack.data_folder() as folder, ExitStack() as over:
        settings = stack.settings_for(folder, traces_url=traces_url, child_memory_bytes=512 << 20)
        resources = over.enter_context(stack.open_stores(settings))
        for process in (stack.start_broker(folder), stack.start_sweeper(settings)):
            over.callback(stack.kill, process)
        options = {"traces_url": traces_url, "allow_private_urls": "true"}
        gateway = over.enter_context(serving(folder, **options))
        made = Service(resources, gateway.url, module)
        over.callback(lambda: [stack.kill(worker) for worker in made.workers if worker.poll() is None])
        made.start_worker()
        yield made


@contextmanager
def receiver() -> Iterator[tuple[str, list[str]]]:
    """Yield an address for webhooks, and the `traceparent` of each that comes."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append(self.headers.get("traceparent", ""))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook?token=hidden", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def names(spans: list[Got]) -> list[str]:
    return [span.name for span in spans]


def below(spans: list[Got], parent: Got) -> list[Got]:
    return [span for span in spans if span.parent == parent.id]


def one(spans: list[Got], name: str) -> Got:
    (found,) = [span for span in spans if span.name == name]
    return found


def assert_nested(spans: list[Got], outer: Got) -> None:
    """Assert that what is below a span of a worker is within its time, and one after the other."""
    inner = below(spans, outer)
    for span in inner:
        assert outer.start <= span.start <= span.end <= outer.end, (outer.name, span.name)
        assert_nested(spans, span)
    assert all(before.end <= after.start for before, after in itertools.pairwise(inner))


def test_one_trace_leads_from_the_client_to_the_childs_stages_and_to_the_webhook() -> None:
    with Collector() as collector, receiver() as (hook, delivered), service(collector.url) as served:
        job = served.submit(served.model(SCRIPT), webhook=hook)
        assert stack.ended(served.resources, job, 120).state == "succeeded"
        stack.until(lambda: {"POST", "process cpu"} <= set(names(collector.of(TRACE))), 60)
        spans, bodies = collector.of(TRACE), b"".join(collector.bodies)
        logs = "".join(path.read_text() for path in served.resources.settings.data_dir.glob("*.log"))

    request, attempt, post = (one(spans, name) for name in ("POST /v1/jobs", "process cpu", "POST"))
    assert request.parent == CLIENT
    assert sorted(names(below(spans, request))) == ["POST", "process cpu", "send cpu", "wait cpu"]
    assert names(below(spans, attempt)) == ["prepare", "compute", "store"]
    compute = one(spans, "compute")
    stages = ["reading", "measuring the original", "share_weights", "measuring the result"]
    assert names(below(spans, compute)) == stages
    assert [names(below(spans, stage)) for stage in below(spans, compute)] == [["training"]] * 4
    assert_nested(spans, attempt)
    assert one(spans, "wait cpu").end == attempt.start
    assert (attempt.kind, attempt.links, attempt.failed) == ("consumer", [], False)
    assert attempt.attributes["messaging.message.id"] == job
    assert attempt.attributes["modelpress.attempt"] == 1
    assert attempt.attributes["modelpress.tenant.id"] == "default"
    assert {span.service for span in spans} == {"modelpress-gateway", "modelpress-worker", "modelpress-sweeper"}
    assert (post.kind, post.attributes["http.response.status_code"]) == ("client", 204)
    assert delivered == [f"00-{TRACE}-{post.id}-01"]
    assert b"hidden" not in bodies
    for event in ("request", "child started", "done", "webhook tried"):
        assert any(f'"event": "{event}"' in line and TRACE in line for line in logs.splitlines()), event


def test_second_attempt_is_linked_to_the_one_whose_worker_was_killed() -> None:
    with Collector() as collector, service(collector.url) as served:
        model = served.model({"job": {"steps": 100, "pause_s": 0.1, "stages": STAGES}})
        job = served.submit(model)
        stack.until(lambda: "reading" in names(collector.of(TRACE)), 60)
        stack.kill(served.workers[0])
        served.start_worker()
        row = stack.ended(served.resources, job, 180)
        stack.until(lambda: names(collector.of(TRACE)).count("process cpu") == 2, 60)
        spans = collector.of(TRACE)

    lost, second = [span for span in spans if span.name == "process cpu"]
    assert (row.state, row.attempt, row.losses) == ("succeeded", 2, 1)
    assert [span.attributes["modelpress.attempt"] for span in (lost, second)] == [1, 2]
    assert (lost.failed, lost.attributes["error.type"]) == (True, "worker-lost")
    assert (second.links, second.failed) == ([lost.id], False)
    assert lost.end <= second.start
    waits = [span for span in spans if span.name == "wait cpu"]
    assert [wait.attributes["modelpress.attempt"] for wait in waits] == [1, 2]
    reading = [span for span in spans if span.name == "reading"]
    assert len(reading) == 2  # what the first had told before it was killed
    assert {span.parent for span in spans} - {span.id for span in spans} == {CLIENT}
    assert names(below(spans, one(below(spans, lost), "compute")))[0] == "reading"
    assert len({span.id for span in spans}) == len(spans)


def test_candidates_of_a_search_are_in_its_trace() -> None:
    with Collector() as collector, service(collector.url, "tests.stand_in.planner") as served:
        model = stack.add_model(served.resources, {"survey": {}, "job": {}})
        assert stack.ended(served.resources, model, 120).state == "succeeded"
        request = JobCreate.model_validate({"model": model, "device": "cpu", "goal": {}})
        noun, document = ("job", jobs), {"document": request.model_dump(mode="json")}
        search = stack.submit(served.resources, noun, document, WorkKind.SEARCH, trace=GIVEN)
        assert stack.ended(served.resources, search, 180).state == "succeeded"
        stack.until(lambda: len(of_work(collector.of(TRACE), search)) == 3, 60)
        spans = collector.of(TRACE)

    claims = of_work(spans, search)
    assert [claim.attributes["modelpress.attempt"] for claim in claims] == [1, 1, 1]
    assert [claim.links for claim in claims] == [[], [claims[0].id], [claims[1].id]]
    candidates = [names(below(spans, claim)).count("process cpu") for claim in claims]
    assert candidates == [*map(len, planner.ROUNDS), 0]


def of_work(spans: list[Got], work_id: str) -> list[Got]:
    own = [span for span in spans if span.attributes.get("messaging.message.id") == work_id]
    return [span for span in own if span.name == "process cpu"]


@pytest.mark.parametrize("away", [True, False], ids=["away", "slow"])
def test_job_is_as_fast_and_worker_stops_as_soon_while_the_collector_is_away_or_slow(away: bool) -> None:
    with Collector(delay_s=5.0) as collector:
        url = f"http://127.0.0.1:{free_port()}" if away else collector.url
        took_s = {traces: timed(traces) for traces in ("", url)}

    job_s, stop_s = (took_s[url][at] - took_s[""][at] for at in (0, 1))
    assert job_s < 1.0
    assert stop_s < 2.0  # one of them for what is left


def timed(traces_url: str) -> tuple[float, float]:
    """Return how long a job takes from its submission to its end, and the worker from SIGTERM to its end."""
    with service(traces_url) as served:
        model = served.model(SCRIPT)
        began = time.monotonic()
        body = {"model": model, "device": "cpu", "recipe": RECIPE}
        answer = httpx.post(f"{served.url}/v1/jobs", json=body, headers={"traceparent": GIVEN}, trust_env=False)
        assert stack.ended(served.resources, answer.json()["id"], 60).state == "succeeded"
        job_s = time.monotonic() - began
        began = time.monotonic()
        stack.kill(served.workers[0], signal.SIGTERM)
        return job_s, time.monotonic() - began
