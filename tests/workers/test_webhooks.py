import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.contracts.base import new_id
from app.contracts.tasks import Queue, WorkKind
from app.errors import UrlForbidden
from app.networks import is_public
from app.resources import Resources
from app.signatures import new_secret, verify
from app.stores import records, webhooks, work
from app.stores.tables import jobs, triggers
from app.stores.tables import webhooks as outbox
from tests.stand_in import stack
from workers import webhooks as sender
from workers.webhooks import deliver_due, resolve


class Receiver(ThreadingHTTPServer):
    """A webhook receiver that answers what it is told to and keeps what it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.got = 204, list[tuple[dict[str, str], bytes]]()
        self.url = f"http://localhost:{self.server_port}/hook?x=1"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.send_header("location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def end_a_job(resources: Resources, url: str, secret: str | None = None) -> None:
    job_id, trigger_id = new_id("job"), new_id("trg")
    with resources.database.transaction() as tx:
        if secret:
            records.add(tx, triggers, "tenant", trigger_id, {"document": {}, "secret": secret})
        columns = {"document": {"webhook": url}, "trigger_id": trigger_id if secret else None}
        records.add(tx, jobs, "tenant", job_id, columns)
        work.enqueue(tx, work.Ticket(job_id, "tenant", WorkKind.COMPRESS, Queue.CPU, 60))
        work.request_cancel(tx, job_id)


def deliver(resources: Resources) -> int:
    return deliver_due(resources)


def row(resources: Resources) -> Any:
    with resources.database.reading() as tx:
        return tx.execute(outbox.select()).one()


def make_due(resources: Resources) -> None:
    with resources.database.transaction() as tx:
        tx.execute(outbox.update().where(outbox.c.next_at.is_not(None)).values(next_at=0))


def test_the_end_of_a_job_is_delivered_signed(resources: Resources, receiver: Receiver) -> None:
    secret = new_secret()
    end_a_job(resources, receiver.url, secret)
    assert deliver(resources) == 1
    ((headers, body),) = receiver.got
    assert verify(headers, body, [secret]) == row(resources).id
    event = json.loads(body)
    assert (event["specversion"], event["type"], event["data"]["state"]) == (
        "1.0", "dev.modelpress.job.cancelled", "cancelled",
    )  # fmt: skip
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["host"] == f"localhost:{receiver.server_port}"


def test_a_delivered_webhook_is_not_sent_again(resources: Resources, receiver: Receiver) -> None:
    end_a_job(resources, receiver.url)
    deliver(resources)
    make_due(resources)
    assert deliver(resources) == 0
    assert (row(resources).next_at, row(resources).last_status) == (None, 204)


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_refused_webhook_is_tried_again_later_under_its_id(
    resources: Resources, receiver: Receiver, status: int
) -> None:
    receiver.status = status
    end_a_job(resources, receiver.url, new_secret())
    deliver(resources)
    assert deliver(resources) == 0
    make_due(resources)
    receiver.status = 200
    assert deliver(resources) == 1
    assert len({headers["webhook-id"] for headers, _body in receiver.got}) == 1
    assert len(receiver.got) == 2


def test_a_webhook_is_given_up_after_ten_tries_over_a_day(resources: Resources) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    end_a_job(resources, f"http://127.0.0.1:{port}/")
    waits = []
    while row(resources).next_at is not None:
        make_due(resources)
        deliver(resources)
        found = row(resources)
        with resources.database.reading() as tx:
            waits.append((found.next_at or records.clock(tx)) - records.clock(tx))
    assert row(resources).tries == 10
    assert 24 * 3_600 < sum(waits) < 36 * 3_600
    assert waits[:6] == sorted(waits[:6])


def test_a_taken_delivery_is_not_taken_twice(resources: Resources) -> None:
    end_a_job(resources, "http://127.0.0.1:1/")
    with resources.database.transaction() as tx:
        assert len(webhooks.take_due(tx, 60)) == 1
        assert webhooks.take_due(tx, 60) == []


def test_no_connection_is_made_to_a_private_address(tmp_path: Path, receiver: Receiver) -> None:
    with stack.open_stores(stack.settings_for(tmp_path, allow_private_urls=False)) as resources:
        end_a_job(resources, receiver.url)
        deliver(resources)
        assert receiver.got == []
        assert row(resources).tries == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "ftp://example.org/", "file:///etc/passwd", "https://", "https://user:pw@example.org/",
        "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f.1/", "https://localhost/",
        "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/",
        "https://169.254.169.254/latest", "https://10.0.0.1/", "https://192.168.1.1/", "https://172.16.0.1/",
        "https://100.64.0.1/", "https://0.0.0.0/", "https://224.0.0.1/", "https://[fe80::1]/", "https://[fc00::1]/",
        "https://[64:ff9b:1::7f00:1]/", "https://[::127.0.0.1]/", "https://[::ffff:0:127.0.0.1]/", "https://[fec0::1]/",
        "https://[2001:0:7f00:1::]/", "https://[2001:db8::1]/", "https://[3fff::1]/", "https://[fd00:ec2::254]/",
        "https://[::ffff:a9fe:a9fe]/", "https://[64:ff9b::a9fe:a9fe]/", "https://[ff02::1]/", "https://[::]/",
        "https://100.100.100.200/", "https://168.63.129.16/", "https://192.0.0.192/", "https://192.88.99.1/",
        "https://255.255.255.255/", "https://198.18.0.1/", "https://017700000001/", "https://0177.0.0.1/",
        "https://127。0。0。1/", "https://①②⑦.0.0.1/", "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "https://LOCALHOST/",
        "https://a..b/", f"https://{'a' * 64}.example/", "https://127.0.0.1#@8.8.8.8/",
        "https://8.8.8.8:6379/", "https://8.8.8.8:99999/", "https://[not-an-address]/", "gopher://8.8.8.8/",
    ],
)  # fmt: skip
def test_an_address_that_may_not_be_contacted_is_refused(url: str) -> None:
    with pytest.raises(UrlForbidden):
        resolve(url, allow_private=False)


def test_a_public_address_is_resolved_once() -> None:
    assert resolve("https://8.8.8.8/hook", allow_private=False) == "8.8.8.8"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),  # 8.8.8.8 from a network without IPv4
        ("2002:808:808::", False),  # 6to4 is out of use, so nobody's receiver
        ("fe80::1%eth0", False),
    ],
)
def test_public_addresses_are_told_from_private_ones(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_receiver_that_answers_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "LIMIT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                while not over.wait(0.05):
                    connection.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(TimeoutError):
            sender.post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"", {}, allow_private=True)
        over.set()
        thread.join()


def test_webhook_that_cannot_be_sent_holds_up_no_other(resources: Resources, receiver: Receiver) -> None:
    end_a_job(resources, f"http://{'a' * 64}.example/")
    end_a_job(resources, "http://a..b/")
    end_a_job(resources, receiver.url)

    assert deliver(resources) == 3

    assert len(receiver.got) == 1
    with resources.database.reading() as tx:
        assert {found.tries for found in tx.execute(outbox.select())} == {1}


def test_name_is_resolved_once_and_told_to_the_receiver(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver, resources: Resources
) -> None:
    asked: list[Any] = []
    real = socket.getaddrinfo

    def once(host: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "192.0.2.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    address = f"http://rebinding.example:{receiver.server_port}/hook"

    assert sender.post(address, b"{}", {}, allow_private=True) == 204

    assert asked[0] == "rebinding.example"
    assert set(asked[1:]) <= {"127.0.0.1", b"127.0.0.1"}  # the address alone, which is looked up nowhere
    assert receiver.got[0][0]["host"] == f"rebinding.example:{receiver.server_port}"


def test_certificate_is_asked_for_by_name_and_must_verify(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context, names = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[str | None]()
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: names.append(name)  # type: ignore[assignment]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            sender.post(f"https://localhost:{server.getsockname()[1]}/", b"secret", {}, allow_private=True)
        thread.join()

    assert names == ["localhost"]
