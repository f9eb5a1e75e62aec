import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.contracts.job import JobState
from app.errors import GuardNotMet
from app.problems import problem_of
from modelpress import Client, Conflict, Event, Guard, InvalidInput, InvalidRequest, TransferError
from tests.app.acting_worker import ActingWorker
from tests.modelpress.conftest import QUICK, CuttingProxy
from tests.modelpress.publishing import VERDICT, causes, publish, refuse, say, started_job, train

CONTENT = os.urandom(200_000) + bytes(600_000)


def test_submit_when_sent_twice_with_one_key(client: Client, worker: ActingWorker, tmp_path: Path) -> None:
    model = started_job(client, worker, tmp_path)[0].model
    first, second = (client.submit(model, ["quantize_int8"], idempotency_key=f"k-{model}") for _ in range(2))
    assert first.id == second.id


def test_submit_when_options_are_given(client: Client, worker: ActingWorker, tmp_path: Path) -> None:
    before = started_job(client, worker, tmp_path)[0]
    guard = Guard(max_drop=0.02)
    steps = [{"technique": "quantize_int8"}]
    job = client.submit(before.model, steps, before.dataset, task="match", guard=guard, tags={"by": "us"})
    assert (job.task, job.guard, job.tags) == ("match", guard, {"by": "us"})
    assert job.id in {found.id for found in client.jobs()}


def test_submit_when_an_option_is_wrong(client: Client) -> None:
    with pytest.raises(InvalidInput, match="seed"):
        client.submit("mdl_" + "0" * 26, ["quantize_int8"], seed=-1)


def test_submit_when_the_model_is_unknown(client: Client) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        client.submit("mdl_" + "0" * 26, ["quantize_int8"])
    assert [fault.pointer for fault in refusal.value.problem.errors] == ["/model"]


def test_wait_when_connections_break(
    client: Client, worker: ActingWorker, cutting: Callable[..., CuttingProxy], tmp_path: Path
) -> None:
    job, held = started_job(client, worker, tmp_path)
    train(worker, held, "distill")
    threading.Timer(0.6, publish, (worker, job, held, CONTENT)).start()
    proxy = cutting(900, 1800, upstream=False)
    seen: list[Event] = []
    with Client(proxy.url, retry=QUICK) as far:
        ended = far.wait(job, seen.append)
    assert ended.state is JobState.SUCCEEDED
    assert [event.id for event in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].message == "succeeded"
    assert proxy.connections >= 3


def test_cancel_when_queued_and_again(client: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job = client.submit(started_job(client, worker, tmp_path)[0].model, ["quantize_int8"])
    assert client.cancel(job).state is JobState.CANCELLED
    with pytest.raises(Conflict):
        client.cancel(job)


def test_resume_when_cancelled_with_a_checkpoint(client: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, held = started_job(client, worker, tmp_path)
    worker.leave_checkpoint(held)
    client.cancel(job)
    worker.end(held, JobState.CANCELLED)
    assert client.job(job.id).resumable
    again = client.resume(job)
    assert again.state is JobState.QUEUED
    assert not again.resumable
    with pytest.raises(Conflict):
        client.resume(job)


def test_report_when_each_format_is_asked_for(client: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, held = started_job(client, worker, tmp_path)
    publish(worker, job, held, CONTENT)
    assert client.report(job).verdict == VERDICT
    assert VERDICT in client.report(job, "markdown")
    assert client.report(job, "html").startswith("<!doctype html>")


def test_report_when_the_guard_was_not_met(client: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, held = started_job(client, worker, tmp_path)
    problem = problem_of(GuardNotMet("accuracy fell by 0.04; at most 0.01 is allowed"))
    say(worker, held, stage="guard", progress=1.0)
    refuse(worker, job, held, problem)
    found = client.report(job)
    assert found.guard is not None
    assert found.guard.name == "guard-not-met"
    assert found.guard_causes == causes()
    card = client.report(job, "markdown")
    assert "## How to meet the guard" in card
    assert "Leave out \\`head.weight\\`." in card
    assert "| accuracy in step 1, ternarize | 0.9400 | 0.8100 | -0.1300 |  |" in card
    assert r"| recall of \<b\>cat | 0.9000 | 0.4000 | -0.5000 | 60 |" in card
    assert r"| 38 | \<b\>cat | \<b\>cat | dog |" in card
    assert "## Layers put back, on 512 validation rows" in card
    assert "| head.weight | Gemm | 0.467 | 0.9300 | +0.1200 | 3,840 | 1,030 | yes |" in card


@pytest.mark.parametrize("variant", ["packed", "dense"])
def test_download_when_whole(client: Client, worker: ActingWorker, tmp_path: Path, variant: str) -> None:
    job, held = started_job(client, worker, tmp_path)
    artifact = publish(worker, job, held, CONTENT)
    target = client.download(artifact, tmp_path / "new" / "m.onnx", variant)  # type: ignore[arg-type]  # parametrized
    assert target.read_bytes() == CONTENT * (2 if variant == "dense" else 1)
    assert [path.name for path in target.parent.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(("place", "name"), [("new/m.onnx", "m.zip"), ("new/m.zip", "m.zip"), ("", "{}.zip")])
def test_download_when_the_model_is_a_zip(
    client: Client, worker: ActingWorker, tmp_path: Path, place: str, name: str
) -> None:
    job, held = started_job(client, worker, tmp_path)
    artifact = client.artifact(publish(worker, job, held, CONTENT))
    packed = artifact.variants["packed"].model_copy(update={"packaging": "zip"})

    target = client.download(artifact.model_copy(update={"variants": {"packed": packed}}), tmp_path / place)

    assert target.name == name.format(artifact.id)
    assert target.read_bytes() == CONTENT


def test_download_when_connections_break(
    client: Client, worker: ActingWorker, cutting: Callable[..., CuttingProxy], tmp_path: Path
) -> None:
    job, held = started_job(client, worker, tmp_path)
    artifact = client.artifact(publish(worker, job, held, CONTENT))
    proxy = cutting(150_000, 100_000, upstream=False)
    with Client(proxy.url, retry=QUICK) as far:
        target = far.download(artifact, tmp_path / "m.onnx")
    assert target.read_bytes() == CONTENT
    assert proxy.connections == 3


def test_download_when_the_bytes_are_not_those_recorded(client: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, held = started_job(client, worker, tmp_path)
    artifact = client.artifact(publish(worker, job, held, CONTENT))
    packed = artifact.variants["packed"].model_copy(update={"sha256": "d" * 64})
    with pytest.raises(TransferError, match="digest"):
        client.download(artifact.model_copy(update={"variants": {"packed": packed}}), tmp_path / "new" / "m.onnx")
    assert not list((tmp_path / "new").iterdir())


def test_techniques_when_listed(client: Client) -> None:
    found = {technique.name: technique for technique in client.techniques()}
    assert found["distill"].options["properties"]["alpha"]["default"] == 0.5
