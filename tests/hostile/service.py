"""The service that strangers meet: broker, gateway, worker and sweeper as real processes, and what holds of them."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.resources import Resources
from app.settings import Settings
from tests.app.serving import Serving, serving
from tests.stand_in import stack
from tests.workers.datasets.test_readers import npz_of
from tests.workers.importers.small_models import model as small_model

OCTETS = {"Content-Type": "application/octet-stream"}
CONTROL = small_model()  # one product: four numbers to three scores
CONTROL_ROWS = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
PATIENCE_S = 600.0  # one request or one job, on a machine that has other things to do


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the problem's name where it was refused, and all of it as text."""

    status: int
    problem: str = ""
    text: str = ""
    seconds: float = 0.0
    body: Any = None


@dataclass
class Service:
    """A running stack, and every answer that it gave."""

    settings: Settings
    resources: Resources
    gateway: Serving
    parts: dict[str, subprocess.Popen[bytes]]
    canary: str
    answers: list[Answer] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)  # ids of what may be had

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.gateway.url, trust_env=False, timeout=PATIENCE_S)

    @property
    def port(self) -> int:
        return int(self.gateway.url.rpartition(":")[2])

    @property
    def canary_path(self) -> Path:
        return self.settings.data_dir / "canary"

    def call(self, method: str, path: str, **more: Any) -> Answer:
        began = time.monotonic()
        response = self.http.request(method, path, **more)
        seconds = time.monotonic() - began
        return self.keep(answer_of(response.status_code, response.content, str(response.headers), seconds))

    def keep(self, answer: Answer) -> Answer:
        self.answers.append(answer)
        return answer

    def upload(self, noun: str, kind: str, content: bytes) -> Answer:
        """Send a model or data set as one body and wait for the verdict."""
        headers = OCTETS | {"Prefer": "wait=60"}
        return self.call("POST", f"/v1/{noun}?format={kind}", content=content, headers=headers)

    def ended(self, path: str) -> Answer:
        """Wait for the end of a job or benchmark; a failure's problem is the answer's."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            answer = self.call("GET", path)
            if answer.body["state"] in stack.FINAL:
                error = answer.body["error"] or {}
                return Answer(answer.status, name_of(error), answer.text, answer.seconds, answer.body)
            time.sleep(0.1)
        raise AssertionError(f"{path} did not end")

    def control(self) -> dict[str, str]:
        """Run the job that hostile rows must not disturb; return the digests of its files."""
        model = self.upload("models", "onnx", CONTROL.SerializeToString())
        data = self.upload("datasets", "npz", npz_of(x=CONTROL_ROWS, y=np.arange(60) % 3))
        assert (model.status, data.status) == (201, 201), (model, data)
        steps = [{"technique": "share_weights", "clusters": 4, "epochs": 1, "min_size": 2}]
        body = {"model": model.body["id"], "dataset": data.body["id"], "recipe": {"steps": steps}, "seed": 5}
        job = self.call("POST", "/v1/jobs", json=body)
        done = self.ended(f"/v1/jobs/{job.body['id']}")
        assert done.body["state"] == "succeeded", done
        self.known = {"model": model.body["id"], "dataset": data.body["id"], "job": job.body["id"],
                      "artifact": done.body["artifact"]}  # fmt: skip
        variants = self.call("GET", f"/v1/artifacts/{done.body['artifact']}").body["variants"]
        return {name: variant["sha256"] for name, variant in variants.items()}

    def _left_in_scratch(self) -> list[str]:
        """Return what attempts left behind; the last one may take a moment to clean up after its answer."""
        deadline = time.monotonic() + 60
        while left := [str(path) for path in self.settings.scratch.glob("*")]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return left

    def troubles(self) -> list[str]:
        """Return what is not as it was: parts that ended, scratch left behind, a secret that came out."""
        found = [name for name, process in self.parts.items() if process.poll() is not None]
        if self.gateway.process.poll() is not None:
            found.append("gateway")
        left = self._left_in_scratch()
        five_hundreds = [answer.text[:300] for answer in self.answers if answer.status >= 500]
        leaks = [answer.text[:200] for answer in self.answers if self.canary in answer.text]
        files = (path for path in self.settings.data_dir.rglob("*") if path != self.canary_path and path.is_file())
        leaks += [str(path) for path in files if self.canary.encode() in path.read_bytes()]
        return found + left + five_hundreds + leaks


def name_of(problem: Any) -> str:
    """Return the last part of a problem's type."""
    return str(problem.get("type", "")).rpartition("/")[2] if isinstance(problem, dict) else ""


def answer_of(status: int, content: bytes, headers: str, seconds: float) -> Answer:
    try:
        body = httpx.Response(200, content=content).json() if content else None
    except ValueError:
        body = None
    text = f"{headers} {content[:100_000].decode('utf-8', 'replace')}"
    return Answer(status, name_of(body), text, seconds, body)


@contextmanager
def running(**changes: Any) -> Iterator[Service]:
    """Run a stack in a folder of its own, with a secret in it that its processes could read."""
    with stack.data_folder() as folder:
        settings = stack.settings_for(folder, lease_s=10.0, child_memory_bytes=16 << 30, **changes)
        with stack.open_stores(settings) as resources:
            canary = f"canary-{secrets.token_hex(16)}"
            (folder / "canary").write_text(canary)
            broker = stack.start_broker(folder)
            shared = {"allow_private_urls": "true"}
            with serving(folder, **shared) as gateway:
                parts = {
                    "broker": broker,
                    "worker": stack.start_worker(settings, module="workers.main"),
                    "sweeper": stack.start_sweeper(settings),
                }
                service = Service(settings, resources, gateway, parts, canary)
                try:
                    yield service
                finally:
                    service.http.close()
                    for name in ("worker", "sweeper", "broker"):
                        if parts[name].poll() is None:
                            stack.kill(parts[name])
