"""Which refusals are tried again."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.errors import Conflict, DependencyUnavailable, ModelpressError, QuotaExceeded, StorageQuotaExceeded
from app.problems import problem_of
from modelpress.errors import ProblemError
from modelpress.transport import Call, Retry, Transport


class Refusing(ThreadingHTTPServer):
    """Refuses the first call, and answers every later one."""

    def __init__(self, refusal: ModelpressError) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refusal, self.calls = refusal, 0


class _Handler(BaseHTTPRequestHandler):
    server: Refusing

    def do_POST(self) -> None:
        self.server.calls += 1
        problem = problem_of(self.server.refusal)
        first = self.server.calls == 1
        body = problem.model_dump_json().encode() if first else b"{}"
        self.send_response(problem.status if first else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[object]:
    servers: list[Refusing] = []

    def start(refusal: ModelpressError) -> Refusing:
        server = Refusing(refusal)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("refusal", "repeatable", "calls"),
    [
        (QuotaExceeded(), False, 2),  # nothing was done, so even a call that must not run twice may be sent again
        (StorageQuotaExceeded(), True, 1),
        (DependencyUnavailable(), True, 2),
        (DependencyUnavailable(), False, 1),
        (Conflict(), True, 1),
    ],
)
def test_refusal_is_tried_again_where_that_may_help(
    serve: object, refusal: ModelpressError, repeatable: bool, calls: int
) -> None:
    server = serve(refusal)  # type: ignore[operator]
    waits: list[float] = []
    with Transport(f"http://127.0.0.1:{server.server_port}", None, Retry(attempts=3, sleep=waits.append)) as transport:
        call = Call("POST", "/v1/anything", body={}, repeatable=repeatable)
        if calls == 1:
            with pytest.raises(ProblemError):
                transport.send(call)
        else:
            transport.send(call)

    assert server.calls == calls
    assert waits == [7.0] * (calls - 1)
