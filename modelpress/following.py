"""Follows a job's events through broken connections: each event once, until the job has ended."""

import time
from collections.abc import Iterator

import httpx

from app.contracts.base import Page
from app.contracts.job import Event, Job
from modelpress.errors import ServerUnreachable
from modelpress.sse import lines, parse
from modelpress.transport import Call, Transport

_SILENCE_S = 60.0  # the server sends a comment more often than this; longer silence is a lost connection
_PAUSE_S = 0.5


def follow(transport: Transport, job_id: str, after: int) -> Iterator[Event]:
    """Yield every event with an id above `after`. Raises ServerUnreachable when the server stays away."""
    last, failures = after, 0
    while True:
        try:
            for event in _stream(transport, job_id, last):
                last, failures = event.id, 0
                yield event
        except (httpx.TransportError, ServerUnreachable) as error:
            failures += 1
            if failures >= transport.retry.attempts:
                raise ServerUnreachable(f"lost the connection to {transport.base_url}") from error
            transport.retry.wait(failures - 1)
            continue
        job = Job.model_validate_json(transport.send(Call("GET", f"/v1/jobs/{job_id}")).content)
        if job.state.final:
            yield from _rest(transport, job_id, last)
            return
        time.sleep(_PAUSE_S)


def _stream(transport: Transport, job_id: str, after: int) -> Iterator[Event]:
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after else {})}
    call = Call("GET", f"/v1/jobs/{job_id}/events", headers=headers, read_timeout_s=_SILENCE_S)
    with transport.stream(call) as response:
        for message in parse(lines(response.iter_bytes())):
            event = Event.model_validate_json(message.data)
            if event.id > after:
                yield event


def _rest(transport: Transport, job_id: str, after: int) -> Iterator[Event]:
    """Yield what was recorded between the stream's end and the job's."""
    page_after: str | None = str(after)
    while page_after is not None:
        call = Call(
            "GET", f"/v1/jobs/{job_id}/events", params={"after": page_after}, headers={"Accept": "application/json"}
        )
        page = Page[Event].model_validate_json(transport.send(call).content)
        yield from page.items
        page_after = page.next
