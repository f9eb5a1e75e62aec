import asyncio

import httpx

from app.contracts.job import JobState
from app.stores import work
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import UNKNOWN, ready_model, submitted_job

STREAM = {"Accept": "text/event-stream"}
JSON = {"Accept": "application/json"}


async def ended_job(client: httpx.AsyncClient, worker: ActingWorker) -> str:
    job = await submitted_job(client, await ready_model(client, worker))
    held = worker.claim(job)
    with worker.resources.database.transaction() as tx:
        work.progress(tx, held, {"stage": "training"}, [{"kind": "log", "message": "two\nlines"}])
    worker.end(held, JobState.SUCCEEDED)
    return job


def ids(stream: str) -> list[int]:
    return [int(line.removeprefix("id: ")) for line in stream.splitlines() if line.startswith("id: ")]


async def test_stream_tells_the_whole_history_and_ends(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await ended_job(client, worker)

    answer = await client.get(f"/v1/jobs/{job}/events", headers=STREAM)

    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["Cache-Control"] == "no-store"
    assert ids(answer.text) == [1, 2, 3, 4]
    assert answer.text.count("event: state") == 3
    assert '"message":"two\\nlines"' in answer.text


async def test_stream_continues_after_the_last_event_seen(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await ended_job(client, worker)

    answer = await client.get(f"/v1/jobs/{job}/events", headers=STREAM | {"Last-Event-ID": "2"})

    assert ids(answer.text) == [3, 4]


async def test_stream_follows_a_job_to_its_end(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await submitted_job(client, await ready_model(client, worker))
    following = asyncio.create_task(client.get(f"/v1/jobs/{job}/events", headers=STREAM))
    await asyncio.sleep(0.1)
    worker.end(worker.claim(job), JobState.SUCCEEDED)

    answer = await asyncio.wait_for(following, 5)

    assert ids(answer.text) == [1, 2, 3]


async def test_page_of_events_continues_after_its_cursor(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await ended_job(client, worker)

    first = (await client.get(f"/v1/jobs/{job}/events?limit=3", headers=JSON)).json()
    rest = (await client.get(f"/v1/jobs/{job}/events?limit=3&after={first['next']}", headers=JSON)).json()

    assert [event["id"] for event in first["items"]] == [1, 2, 3]
    assert [event["id"] for event in rest["items"]] == [4]
    assert rest["next"] is None


async def test_events_in_another_form_are_not_acceptable(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await ended_job(client, worker)

    answer = await client.get(f"/v1/jobs/{job}/events", headers={"Accept": "text/html"})

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (406, "not-acceptable")


async def test_events_of_an_unknown_job_are_404(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/v1/jobs/job_{UNKNOWN}/events", headers=STREAM)).status_code == 404
