"""A receiver of webhooks that is not up to it at first."""

import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Seen:
    """One try: its webhook-id and its body."""

    id: str
    body: bytes


class Receiver:
    """Refuses the first tries with 500, hangs up on some, and never answers the first if it `hangs`."""

    def __init__(self, fails: int, *, hangs: bool) -> None:
        self.seen: list[Seen] = []
        self.accepted = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.seen.append(Seen(self.headers.get("webhook-id", ""), body))
                number = len(receiver.seen)
                if number <= fails:
                    if hangs and number == 1:
                        time.sleep(11)  # the sender gives up after 10 s
                    if number % 2:
                        self.send_error(500)
                    return  # every other one is hung up on without an answer
                self.send_response(204)
                self.end_headers()
                receiver.accepted = True

            def log_message(self, *_arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
