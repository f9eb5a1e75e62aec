"""Requests at a fixed rate, whatever the answers take: `python -m bench._open_loop '<Plan>'` prints a `Found`, as JSON.

A request's time counts from the moment it was due, so that a stall is not hidden by the requests that it held up.
Speaks HTTP/1.1 itself: a client library takes more of the processor for a request than the gateway.
"""

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

_PATIENCE_S = 60.0
_LENGTH = b"content-length:"


@dataclass(frozen=True)
class Plan:
    """What to ask, how often, for how long; of several gateways each in turn."""

    urls: list[str]
    method: str
    path: str
    per_second: float
    seconds: float
    body: dict[str, Any] | None = None
    key: str = ""


@dataclass(frozen=True)
class Found:
    """Times in milliseconds; `bad` counts answers that are no success, by status, 0 for none.

    `late_p99_ms`: how late this generator itself sent, for want of a processor; that much of `p99_ms` may be its own.
    """

    requests: int
    p50_ms: float
    p99_ms: float
    most_ms: float
    late_p99_ms: float
    bad: dict[str, int]

    @property
    def errors(self) -> int:
        """How many requests did not succeed."""
        return sum(self.bad.values())


class Gateway:
    """One gateway, with the connections to it that are free."""

    def __init__(self, url: str, plan: Plan) -> None:
        self._where, self._request = urlsplit(url), written(url, plan)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def exchange(self) -> int:
        """Send over a connection that is free, or a new one, and return the answer's status."""
        while self._idle and self._idle[-1][0].at_eof():  # the gateway has closed it, as it may after 75 s
            self._idle.pop()[1].close()
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(self._where.hostname, self._where.port)
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(_LENGTH)[2].split(b"\r\n")[0]))
        self._idle.append((reader, writer))
        return int(head[9:12])


class Drive:
    """Sends every request when it is due, and notes what came of it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._gateways = cycle([Gateway(url, plan) for url in plan.urls])
        self._times: list[float] = []
        self._late: list[float] = []
        self._bad: Counter[str] = Counter()

    async def run(self) -> Found:
        began, asked = time.monotonic(), set[asyncio.Task[None]]()
        for number in range(round(self._plan.per_second * self._plan.seconds)):
            due = began + number / self._plan.per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            asked.add(task := asyncio.create_task(self._ask(due)))
            task.add_done_callback(asked.discard)
        await asyncio.gather(*asked)
        half, most = statistics.median(self._times), max(self._times)
        return Found(len(self._times), half, _p99(self._times), most, _p99(self._late), dict(self._bad))

    async def _ask(self, due: float) -> None:
        self._late.append(1000 * (time.monotonic() - due))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                status = await next(self._gateways).exchange()
        except (OSError, EOFError, TimeoutError):
            status = 0
        self._times.append(1000 * (time.monotonic() - due))
        if not 200 <= status < 300:
            self._bad[str(status)] += 1


def written(url: str, plan: Plan) -> bytes:
    """Return the request as it goes over the wire."""
    body = json.dumps(plan.body).encode() if plan.body is not None else b""
    lines = [
        f"{plan.method} {plan.path} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    if plan.key:
        lines.append(f"Authorization: Bearer {plan.key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


class Generator:
    """A generator in a process of its own, which runs from now on."""

    def __init__(self, plan: Plan) -> None:
        command = [sys.executable, "-m", "bench._open_loop", json.dumps(asdict(plan))]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def found(self) -> Found:
        """Wait for the end and return the figures."""
        told, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(self._process.returncode)
        return Found(**json.loads(told))


if __name__ == "__main__":
    gc.disable()  # its pauses would count as the gateway's
    print(json.dumps(asdict(asyncio.run(Drive(Plan(**json.loads(sys.argv[1]))).run()))))
