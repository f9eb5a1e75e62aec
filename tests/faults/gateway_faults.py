"""Faults of the gateway and of its clients."""

import hashlib
import http.client
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psutil
from sqlalchemy import text

from tests.faults.client import PATIENCE_S
from tests.faults.cluster import Cluster, end, wait_exit
from tests.faults.receiver import Receiver
from tests.faults.registry import LONG, NOTHING, STEADY, Run, fault
from tests.stand_in import stack

PART_BYTES = 2 << 20
PARTS = 12


@fault("R4", "the gateway is killed in the middle of uploads", "they go on where they stand; the digest is right")
def kill_in_upload(run: Run) -> None:
    content = run.rng.randbytes(PART_BYTES * PARTS)
    upload = run.client.insist("POST", "/v1/uploads", headers={"Upload-Complete": "?0"}).json()["id"]
    stop = threading.Event()
    killer = threading.Thread(target=_kill_now_and_then, args=(run.cluster, run.rng, stop))
    killer.start()
    try:
        digest = send(run, upload, content)
    finally:
        stop.set()
        killer.join()
    run.cluster.heal()
    assert digest == hashlib.sha256(content).hexdigest()


def _kill_now_and_then(cluster: Cluster, rng: random.Random, stop: threading.Event) -> None:
    for _ in range(2):
        if stop.wait(rng.uniform(0.05, 0.4)):
            return
        end(cluster.gateways[0])
        cluster.start_gateway()


def send(run: Run, upload: str, content: bytes) -> str:
    """Send what is missing, part by part, and return the digest that the service says."""
    path = f"/v1/uploads/{upload}"
    while True:
        stands = run.client.insist("HEAD", path)
        if stands.headers["Upload-Complete"] == "?1":
            return str(run.client.insist("GET", path).json()["sha256"])
        offset = int(stands.headers["Upload-Offset"])
        part = content[offset : offset + PART_BYTES]
        last = "?1" if offset + len(part) == len(content) else "?0"
        kind = {"Content-Type": "application/partial-upload", "Upload-Offset": str(offset), "Upload-Complete": last}
        run.client.ask("PATCH", path, content=_slowly(part), headers=kind)


def _slowly(part: bytes) -> Iterator[bytes]:
    for start in range(0, len(part), 1 << 18):
        time.sleep(0.005)
        yield part[start : start + (1 << 18)]


@fault("R14", "clients leave in mid upload, stream and download", "nothing leaks, the job and the upload stand")
def disconnect(run: Run) -> None:
    done = run.submit({"steps": 1, "kib": 4_000})
    artifact = run.client.wait(done)["artifact"]
    job, gateway = run.submit(LONG), psutil.Process(run.cluster.gateways[0].pid)
    before = gateway.num_fds()
    upload = run.client.insist("POST", "/v1/uploads", headers={"Upload-Complete": "?0"}).json()["id"]
    for _ in range(20):
        _leave(run, "GET", f"/v1/artifacts/{artifact}/content")
        _leave(run, "GET", f"/v1/jobs/{job}/events")
        _leave_in_upload(run, upload)
    stack.until(lambda: gateway.num_fds() <= before + 5, PATIENCE_S)
    content = run.rng.randbytes(PART_BYTES)
    offset = int(run.client.insist("HEAD", f"/v1/uploads/{upload}").headers["Upload-Offset"])
    assert send(run, upload, bytes(offset) + content) == hashlib.sha256(bytes(offset) + content).hexdigest()
    run.expect(job, losses=0)


def _leave(run: Run, method: str, path: str) -> None:
    port = run.cluster.ports[0]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={"Accept-Encoding": "identity"})
    connection.getresponse().read(10)
    connection.close()


def _leave_in_upload(run: Run, upload: str) -> None:
    offset = run.client.insist("HEAD", f"/v1/uploads/{upload}").headers["Upload-Offset"]
    connection = http.client.HTTPConnection("127.0.0.1", run.cluster.ports[0], timeout=20)
    connection.putrequest("PATCH", f"/v1/uploads/{upload}")
    kind = {"Content-Type": "application/partial-upload", "Upload-Offset": offset, "Content-Length": "100000"}
    for name, value in kind.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(bytes(run.rng.randrange(1, 50_000)))
    connection.close()


@fault("R15", "fifty equal submissions at once", "with a key one job, without as many as were sent")
def submit_at_once(run: Run) -> None:
    model, key = run.client.model(NOTHING), f"key-{run.rng.getrandbits(64):x}"

    def post(number: int) -> str | None:
        return run.client.submit(model, key=key if number % 5 else "", seed=7)

    with ThreadPoolExecutor(16) as pool:
        accepted = [job for job in pool.map(post, range(50)) if job]
    assert len(set(accepted)) == 11, "ten without a key and one with it"
    for job in set(accepted):
        run.expect(job)


@fault("R18", "two gateways are restarted in turn under 20 requests a second", "no request fails")
def roll_gateways(run: Run) -> None:
    run.cluster.heal(gateways=2)
    balancer = Balancer(run)
    job = run.submit(STEADY)
    with ThreadPoolExecutor(8) as pool:
        restarting = pool.submit(_restart_in_turn, run, balancer)
        due, asked = time.monotonic(), []
        while not restarting.done() or len(asked) < 40:
            asked.append(pool.submit(balancer.ask, job))
            due += 0.05
            time.sleep(max(0.0, due - time.monotonic()))
        restarting.result()
        failed = [found for call in asked if (found := call.result()) != 200]
    run.figures["drain"] = balancer.slowest_stop_s
    assert not failed, f"{len(failed)} of {len(asked)} failed: {failed[:3]}"


class Balancer:
    """Takes a gateway out before it is stopped, as an endpoint controller and a preStop pause do."""

    def __init__(self, run: Run) -> None:
        self._urls = run.cluster.urls
        self._clients = [httpx.Client(base_url=url, timeout=30) for url in self._urls]
        self.out: set[int] = set()
        self.slowest_stop_s = 0.0
        self._turn = 0

    def ask(self, job: str) -> int | str:
        self._turn += 1
        inside = [number for number in range(len(self._urls)) if number not in self.out]
        chosen = self._clients[inside[self._turn % len(inside)]]
        try:
            return chosen.get(f"/v1/jobs/{job}").status_code
        except httpx.TransportError as error:
            return repr(error)


def _restart_in_turn(run: Run, balancer: Balancer) -> None:
    for number in (0, 1):
        balancer.out.add(number)
        run.pause(0.2, 0.6)
        process = run.cluster.gateways[number]
        process.send_signal(signal.SIGTERM)
        balancer.slowest_stop_s = max(balancer.slowest_stop_s, wait_exit(process, 25))
        run.cluster.start_gateway(number)
        balancer.out.discard(number)


@fault("R21", "the receiver of webhooks is away, answers 500 or hangs", "tried again with growing waits, under one id")
def webhook_receiver(run: Run) -> None:
    fails = run.rng.randrange(1, 4)
    with Receiver(fails, hangs=run.number % 10 == 0) as receiver:
        job = run.submit(NOTHING, webhook=receiver.url)
        run.client.wait(job)
        while not receiver.accepted:
            tries = len(receiver.seen)
            stack.until(lambda now=tries: receiver.accepted or len(receiver.seen) > now, PATIENCE_S)
            _let_time_pass(run)
        assert len({seen.id for seen in receiver.seen}) == 1
        assert len({seen.body for seen in receiver.seen}) == 1
        assert len(receiver.seen) == fails + 1
        with run.cluster.resources.database.reading() as tx:
            row = tx.execute(text("SELECT tries, next_at FROM webhooks ORDER BY id DESC LIMIT 1")).one()
        assert row.tries >= fails


def _let_time_pass(run: Run) -> None:
    """Make the next try due: waiting for it would take a minute, then five, then half an hour."""
    with suppress(AssertionError):
        stack.until(lambda: _waits(run), 12)
    with run.cluster.resources.database.transaction() as tx:
        tx.execute(text("UPDATE webhooks SET next_at = 0 WHERE next_at IS NOT NULL AND lease_until IS NULL"))


def _waits(run: Run) -> bool:
    with run.cluster.resources.database.reading() as tx:
        held = text("SELECT count(*) FROM webhooks WHERE lease_until IS NOT NULL")
        return not tx.execute(held).scalar_one()
