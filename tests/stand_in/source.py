"""A web server on loopback that gives one file, and breaks off, redirects, changes or dawdles as it is told."""

import re
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Source:
    """What it gives, and how. `breaks` answers in a row end early; `fails` are statuses answered first."""

    content: bytes
    url: str = ""
    etag: bool = True
    sized: bool = True
    breaks: int = 0
    fails: list[int] = field(default_factory=list)
    redirects: list[str] = field(default_factory=list)
    pause_s: float = 0.0  # between pieces
    piece: int = 1 << 16
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def tag(self) -> str:
        return f'"{sha256(self.content).hexdigest()[:16]}"'


class _Handler(BaseHTTPRequestHandler):
    source: Source

    def do_GET(self) -> None:
        source, headers = self.source, {name.lower(): value for name, value in self.headers.items()}
        source.asked.append({**headers, "path": self.path})
        if source.redirects:
            self._end(302, {"Location": source.redirects.pop(0)})
        elif source.fails:
            self._end(source.fails.pop(0), {})
        else:
            self._give(headers)

    def _give(self, headers: dict[str, str]) -> None:
        source, first = self.source, 0
        span = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if span and headers.get("if-range") == source.tag:
            first = int(span[1])
        whole = len(source.content)
        given = {"Content-Length": str(whole - first)} if source.sized else {}
        given |= {"ETag": source.tag} if source.etag else {}
        given |= {"Content-Range": f"bytes {first}-{whole - 1}/{whole}"} if first else {}
        self.send_response(206 if first else 200)
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        last = whole
        if source.breaks:
            source.breaks -= 1
            last = (first + whole) // 2
        for start in range(first, last, source.piece):
            self.wfile.write(source.content[start : min(start + source.piece, last)])
            time.sleep(source.pause_s)
        self.close_connection = True

    def _end(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:  # a reader that goes away is no error here
        pass


@contextmanager
def serving(content: bytes, certificate: Path | None = None) -> Iterator[Source]:
    """Serve on loopback, over TLS with the key and certificate in a file."""
    source = Source(content)
    server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"source": source}))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    source.url = f"http{'s' if certificate else ''}://localhost:{server.server_port}/models/m.onnx"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield source
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_certificate(folder: Path) -> Path:
    """Return a file with a key and a certificate of its own for localhost."""
    path = folder / "localhost.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names]
    subprocess.run([*key, "-keyout", path, "-out", folder / "c.pem"], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (folder / "c.pem").read_bytes())
    return path
