"""What clients were told, in JSON lines, and what must hold of it whatever died meanwhile.

A call is one line: when it was sent and answered (monotonic seconds), what was asked and what came back. The rules:

    graph      states move along the graph of `app.stores.work`, back into the queue from an end only by a resume
    once       a job has at most one `succeeded` in its history, and at most one artifact
    kept       a submission that was acknowledged is known ever after, ends, and is the same job for the same key
    unchanged  a result that was seen (artifact, its bytes' digest, report) never changes
    agreed     reads after a final state agree with it, until somebody resumes the job
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FINAL = frozenset({"succeeded", "failed", "cancelled"})
EDGES = {
    None: {"queued"},
    "queued": {"running", "cancelled", "failed"},
    "running": {"queued", "cancelling", "succeeded", "failed", "cancelled"},
    "cancelling": {"cancelled"},
}
RESUMED = {"failed": {"queued"}, "cancelled": {"queued"}}


@dataclass(frozen=True)
class Call:
    """One exchange. `act`: submit, read, events, result, resume, artifacts; `answer` is what of the body is judged."""

    act: str
    job: str
    status: int
    sent: float
    answered: float
    key: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)


class Recorder:
    """Writes calls to a file as they end; for any number of threads."""

    def __init__(self, path: Path) -> None:
        self._file, self._lock = path.open("a", encoding="utf-8"), threading.Lock()

    def note(self, act: str, job: str, status: int, sent: float, key: str = "", **answer: Any) -> None:
        call = Call(act, job, status, sent, time.monotonic(), key, answer)
        with self._lock:
            self._file.write(json.dumps(asdict(call)) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def load(path: Path) -> list[Call]:
    return [Call(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def violations(calls: Iterable[Call]) -> list[str]:
    """Return every broken rule as `rule job: what`; none for a history that the service may show."""
    per_job: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.answered):
        per_job[call.job].append(call)
    found = list(_keys([call for each in per_job.values() for call in each]))
    for job, each in per_job.items():
        if not job:
            continue  # a refused or unanswered submission names none
        for rule in (_graph, _once, _kept, _unchanged, _agreed):
            found += [f"{rule.__name__[1:]} {job}: {what}" for what in rule(each)]
    return found


def lost(broken: Iterable[str]) -> bool:
    return any(line.startswith("kept") for line in broken)


def doubled(broken: Iterable[str]) -> bool:
    return any(line.startswith("once") for line in broken)


def _good(calls: list[Call], *acts: str) -> list[Call]:
    return [call for call in calls if call.act in acts and 200 <= call.status < 300]


def _graph(calls: list[Call]) -> Iterator[str]:
    resumes = len(_good(calls, "resume"))
    for call in _good(calls, "events"):
        before, back = None, 0
        for state in call.answer["states"]:
            if state in RESUMED.get(str(before), ()):
                back += 1
            elif state not in EDGES.get(before, ()):
                yield f"{before} → {state}"
            before = state
        if back > resumes:
            yield f"back into the queue {back} times with {resumes} resumes"


def _once(calls: list[Call]) -> Iterator[str]:
    for call in _good(calls, "events"):
        count = list(call.answer["states"]).count("succeeded")
        if count > 1:
            yield f"succeeded {count} times"
    seen = {artifact for call in _good(calls, "artifacts") for artifact in call.answer["ids"]}
    if len(seen) > 1:
        yield f"{len(seen)} artifacts"


def _kept(calls: list[Call]) -> Iterator[str]:
    accepted = [call.answered for call in _good(calls, "submit")]
    if not accepted:
        return
    gone = [call for call in calls if call.act != "submit" and call.status == 404 and call.sent > min(accepted)]
    if gone:
        yield f"unknown after it was accepted ({gone[0].act})"
    if not any(call.answer["state"] in FINAL for call in _good(calls, "read")):
        yield "never seen at an end"


def _keys(calls: list[Call]) -> Iterator[str]:
    jobs: dict[str, set[str]] = defaultdict(set)
    for call in _good(calls, "submit"):
        if call.key:
            jobs[call.key].add(call.job)
    for key, each in jobs.items():
        if len(each) > 1:
            yield f"kept {min(each)}: key {key} was answered with {len(each)} jobs"


def _unchanged(calls: list[Call]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for call in _good(calls, "result"):
        for name, digest in call.answer.items():
            if seen.setdefault(name, digest) != digest:
                yield f"{name} was {seen[name]}, then {digest}"


def _agreed(calls: list[Call]) -> Iterator[str]:
    """Compare reads that do not overlap: of two that do, either may have been served first."""
    resumes = _good(calls, "resume")
    ended: Call | None = None
    for call in sorted(_good(calls, "read"), key=lambda call: call.sent):
        if ended is not None and call.sent > ended.answered:
            resumed = any(again.answered > ended.sent and again.sent < call.answered for again in resumes)
            if not resumed and call.answer != ended.answer:
                yield f"{dict(ended.answer)}, then {dict(call.answer)}"
            elif resumed:
                ended = None
        if call.answer["state"] in FINAL and (ended is None or call.answered < ended.answered):
            ended = call
