"""The checker itself: a sound history passes, and each rule has histories that break it."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.history import Call, Recorder, doubled, load, lost, violations

SOUND = ["queued", "running", "queued", "running", "succeeded"]


def call(
    act: str, at: float, *, status: int = 200, job: str = "a", lasting: float = 0.1, key: str = "", **answer: Any
) -> Call:
    return Call(act, job, status, at, at + lasting, key, answer)


def sound() -> list[Call]:
    return [
        call("submit", 0, status=202),
        call("read", 1, state="queued", artifact=None),
        call("read", 2, state="running", artifact=None),
        call("read", 3, state="succeeded", artifact="x"),
        call("events", 4, states=SOUND),
        call("artifacts", 5, ids=["x"]),
        call("result", 6, packed="1", report="2"),
        call("result", 7, packed="1", report="2"),
    ]


def test_a_sound_history_passes() -> None:
    assert violations(sound()) == []


def test_a_refused_submission_promises_nothing() -> None:
    assert violations([call("submit", 0, status=503, job="")]) == []


@pytest.mark.parametrize(
    "states",
    [
        ["running", "succeeded"],
        ["queued", "succeeded"],
        ["queued", "running", "cancelling", "succeeded"],
        ["queued", "running", "cancelling", "queued"],
        ["queued", "running", "failed", "running"],
        ["queued", "running", "failed", "queued", "running", "succeeded"],
        ["queued", "cancelled", "queued"],
    ],
)
def test_a_step_off_the_graph_is_found(states: list[str]) -> None:
    broken = violations([*sound()[:4], call("events", 8, states=states)])
    assert [line.partition(":")[0] for line in broken] == ["graph a"]


def test_a_resume_leads_from_an_end_back_into_the_queue() -> None:
    ended = [call("submit", 0), call("read", 1, state="failed"), call("resume", 2, status=202)]
    after = [call("read", 3, state="queued"), call("read", 4, state="succeeded")]
    events = call("events", 5, states=["queued", "running", "failed", "queued", "running", "succeeded"])
    assert violations([*ended, *after, events]) == []
    assert [line[:5] for line in violations([*ended[:2], *after, events])] == ["graph", "agree", "agree"]


def test_two_successes_are_found() -> None:
    states = ["queued", "running", "succeeded", "succeeded"]
    broken = violations([call("submit", 0), call("read", 1, state="succeeded"), call("events", 2, states=states)])
    assert doubled(broken)
    assert not lost(broken)


def test_two_artifacts_of_one_job_are_found() -> None:
    broken = violations([*sound(), call("artifacts", 8, ids=["y"])])
    assert broken == ["once a: 2 artifacts"]


def test_an_accepted_job_that_is_unknown_later_is_lost() -> None:
    broken = violations([*sound(), call("read", 8, status=404)])
    assert lost(broken)


def test_an_accepted_job_that_never_ends_is_lost() -> None:
    assert violations(sound()[:3]) == ["kept a: never seen at an end"]


def test_two_jobs_for_one_key_are_found() -> None:
    first = [call("submit", 0, key="k"), call("read", 1, state="cancelled")]
    second = [call("submit", 2, job="b", key="k"), call("read", 3, job="b", state="cancelled")]
    assert violations([*first, *second]) == ["kept a: key k was answered with 2 jobs"]


@pytest.mark.parametrize("changed", ["packed", "report"])
def test_a_result_that_changes_is_found(changed: str) -> None:
    broken = violations([*sound(), call("result", 8, **{changed: "other"})])
    assert [line[:9] for line in broken] == ["unchanged"]


@pytest.mark.parametrize("answer", [{"state": "running", "artifact": None}, {"state": "succeeded", "artifact": "y"}])
def test_a_read_that_disagrees_with_the_end_is_found(answer: dict[str, Any]) -> None:
    assert [line[:6] for line in violations([*sound(), call("read", 8, **answer)])] == ["agreed"]


def test_a_read_that_overlaps_the_end_may_be_the_older() -> None:
    overlapping = call("read", 2.5, lasting=2, state="running", artifact=None)
    assert violations([*sound(), overlapping]) == []


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "calls")
    recorder.note("submit", "a", 202, 0.0, key="k")
    recorder.note("read", "a", 200, 1.0, state="queued")
    recorder.close()
    assert violations(load(tmp_path / "calls")) == ["kept a: never seen at an end"]
