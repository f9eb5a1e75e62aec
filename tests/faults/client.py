"""A client that writes down each call, and goes on asking when a part of the service is away."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tests.faults.history import FINAL, Recorder
from tests.stand_in import stack

RECIPE = {"version": 1, "steps": [{"technique": "share_weights"}]}
_JUDGED = ("state", "attempt", "artifact", "error", "started_at", "ended_at")
PATIENCE_S = 120.0  # until something counts as stuck; a busy machine is slow, not stuck
_AWAY = (429, 502, 503)


class Client:
    """Speaks to any of the gateways; each call is one line of the history."""

    def __init__(self, urls: list[str], recorder: Recorder, key: str = "") -> None:
        self.urls, self.recorder = urls, recorder
        self._http = httpx.Client(timeout=30, headers={"Authorization": f"Bearer {key}"} if key else {})
        self._models: dict[str, str] = {}

    def close(self) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        """Return the answer, or None when there was none."""
        try:
            return self._http.request(method, self.urls[0] + path, **more)
        except httpx.TransportError:
            return None

    def insist(self, method: str, path: str, limit_s: float = PATIENCE_S, **more: Any) -> httpx.Response:
        """Ask until something other than an outage is answered."""
        found: list[httpx.Response] = []

        def answered() -> bool:
            answer = self.ask(method, path, **more)
            if answer is None or answer.status_code in _AWAY:
                return False
            found.append(answer)
            return True

        stack.until(answered, limit_s)
        return found[0]

    def model(self, script: Mapping[str, Any]) -> str:
        """Return a checked model whose jobs do what the script says."""
        content = json.dumps({"job": script})
        if content not in self._models:
            headers = {"Content-Type": "application/octet-stream"}
            made = self.insist("POST", "/v1/models", content=content, headers=headers).json()["id"]
            stack.until(lambda: self.insist("GET", f"/v1/models/{made}").json()["state"] != "checking", PATIENCE_S)
            self._models[content] = made
        return self._models[content]

    def submit(self, model: str, *, key: str = "", **body: Any) -> str | None:
        """Submit once; return the job's id, or None when it was not accepted."""
        headers = {"Idempotency-Key": key} if key else {}
        sent = time.monotonic()
        answer = self.ask("POST", "/v1/jobs", json={"model": model, "recipe": RECIPE} | body, headers=headers)
        status = answer.status_code if answer is not None else 0
        job = str(answer.json()["id"]) if answer is not None and status == 202 else ""
        self.recorder.note("submit", job, status, sent, key)
        assert status in {0, 202, 409, 429, 503, 507}, answer.text if answer is not None else ""
        return job or None

    def read(self, job: str) -> dict[str, Any] | None:
        """Read once; return the job, or None when there was no good answer."""
        sent = time.monotonic()
        answer = self.ask("GET", f"/v1/jobs/{job}")
        if answer is None:
            return None
        if answer.status_code != 200:
            self.recorder.note("read", job, answer.status_code, sent)
            assert answer.status_code in {503, 404}, answer.text
            return None
        body: dict[str, Any] = answer.json()
        self.recorder.note("read", job, 200, sent, **{name: body[name] for name in _JUDGED})
        return body

    def wait(
        self, job: str, *, until: Callable[[dict[str, Any]], bool] = lambda _job: False, limit_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """Read until the job has ended, or is as asked for."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            body = self.read(job)
            found[:] = [body] if body else []
            return body is not None and (body["state"] in FINAL or until(body))

        stack.until(there, limit_s)
        return found[0]

    def training(self, job: str, limit_s: float = PATIENCE_S) -> None:
        """Read until the job's child has said something, or has ended."""
        self.wait(job, until=lambda body: body["stage"] != "", limit_s=limit_s)

    def cancel(self, job: str) -> int:
        return self.insist("POST", f"/v1/jobs/{job}/cancel").status_code

    def look_back(self, job: str, ended: Mapping[str, Any]) -> None:
        """Note the whole history of an ended job, its artifacts, and its result twice."""
        sent = time.monotonic()
        path = f"/v1/jobs/{job}/events?limit=1000"
        answer = self.insist("GET", path, headers={"Accept": "application/json"})
        states = [event["message"] for event in answer.json()["items"] if event["kind"] == "state"]
        self.recorder.note("events", job, answer.status_code, sent, states=states)
        sent = time.monotonic()
        listed = self.insist("GET", f"/v1/artifacts?job={job}").json()["items"]
        self.recorder.note("artifacts", job, 200, sent, ids=[one["id"] for one in listed])
        self.read(job)
        if ended["artifact"]:
            for _ in range(2):
                self._note_result(job, ended["artifact"])

    def _note_result(self, job: str, artifact: str) -> None:
        sent = time.monotonic()
        parts = {
            "packed": f"/v1/artifacts/{artifact}/content",
            "dense": f"/v1/artifacts/{artifact}/content?variant=dense",
            "report": f"/v1/jobs/{job}/report",
        }
        digests = {}
        for name, path in parts.items():
            answer = self.insist("GET", path, headers={"Accept-Encoding": "identity"})
            assert answer.status_code == 200, f"{name}: {answer.text}"
            digests[name] = hashlib.sha256(answer.content).hexdigest()
        self.recorder.note("result", job, 200, sent, **digests)
