"""An S3 on loopback that loses every third call, breaks off every seventh read and damages every eleventh.

As much of the protocol as `app.stores.blobs` speaks: put, multipart, copy, get with a range, head, delete, list.
"""

import re
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Store:
    """What lies in the bucket, and how unreliable it is."""

    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    flaky: bool = True
    down: bool = False
    damages: bool = True
    calls: "count[int]" = field(default_factory=lambda: count(1))
    reads: "count[int]" = field(default_factory=lambda: count(1))
    failed: int = 0
    heads: list[dict[str, str]] = field(default_factory=list)  # the headers of each call, names in lower case


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def _begin(self) -> tuple[str, dict[str, list[str]], bytes] | None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        number = next(self.store.calls)
        self.store.heads.append({name.lower(): value for name, value in self.headers.items()})
        if self.store.down or (self.store.flaky and number % 3 == 0):
            self.store.failed += 1
            self._answer(503, b"<Error><Code>SlowDown</Code></Error>")
            return None
        return unquote(parts.path).lstrip("/"), parse_qs(parts.query, keep_blank_values=True), body

    def do_PUT(self) -> None:
        if (asked := self._begin()) is None:
            return
        key, query, body = asked
        if "uploadId" in query:
            self.store.parts[query["uploadId"][0]][int(query["partNumber"][0])] = body
        elif source := self.headers.get("x-amz-copy-source"):
            found = self.store.objects.get(unquote(source).lstrip("/"))
            if found is None:
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                return
            self.store.objects[key] = found
            self._answer(200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>")
            return
        else:
            self.store.objects[key] = body
        self._answer(200, b"", etag=_tag(body))

    def do_POST(self) -> None:
        if (asked := self._begin()) is None:
            return
        key, query, body = asked
        if "uploads" in query:
            upload = f"u{len(self.store.parts)}"
            self.store.parts[upload] = {}
            self._answer(200, _xml("InitiateMultipartUploadResult", UploadId=upload))
        elif "uploadId" in query:
            parts = self.store.parts[query["uploadId"][0]]
            self.store.objects[key] = b"".join(parts[number] for number in sorted(parts))
            self._answer(200, _xml("CompleteMultipartUploadResult", ETag=_tag(self.store.objects[key])))
        else:
            names = re.findall(r"<Key>(.*?)</Key>", body.decode())
            for name in names:
                self.store.objects.pop(f"{key.split('/')[0]}/{name}", None)
            told = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
            self._answer(200, f"<DeleteResult>{told}</DeleteResult>".encode())

    def do_DELETE(self) -> None:
        if (asked := self._begin()) is not None:
            self.store.objects.pop(asked[0], None)
            self._answer(204, b"")

    def do_HEAD(self) -> None:
        if (asked := self._begin()) is not None:
            found = self.store.objects.get(asked[0])
            self._answer(404 if found is None else 200, found or b"", etag=_tag(found or b""))

    def do_GET(self) -> None:
        if (asked := self._begin()) is None:
            return
        key, query, _body = asked
        if "list-type" in query:
            self._answer(200, self._listed(key, query.get("prefix", [""])[0]))
            return
        found = self.store.objects.get(key)
        if found is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        self._send_object(found)

    def _send_object(self, found: bytes) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        first, last = (int(span[1]), int(span[2] or len(found) - 1)) if span else (0, len(found) - 1)
        sent, extra = found[first : last + 1], {}
        if span:
            extra["Content-Range"] = f"bytes {first}-{min(last, len(found) - 1)}/{len(found)}"
        number, keep = next(self.store.reads), None
        if self.store.flaky and number % 7 == 0:
            keep = len(sent) // 2
        elif self.store.flaky and self.store.damages and number % 11 == 0 and sent:
            sent = sent[:-1] + bytes([sent[-1] ^ 1])
        self._answer(206 if span else 200, sent, etag=_tag(found), keep=keep, extra=extra)

    def _listed(self, bucket: str, prefix: str) -> bytes:
        where = bucket.rstrip("/") + "/"
        rows = "".join(
            f"<Contents><Key>{key[len(where) :]}</Key><Size>{len(found)}</Size><ETag>{_tag(found)}</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, found in sorted(self.store.objects.items())
            if key.startswith(where + prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()

    def _answer(
        self, status: int, body: bytes, etag: str = "", keep: int | None = None, extra: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", formatdate(usegmt=True))
        for name, value in {"ETag": etag, **(extra or {})}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if keep is None else body[:keep])
        if keep is not None:
            self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        return


def _tag(content: bytes) -> str:
    return f'"{md5(content, usedforsecurity=False).hexdigest()}"'


def _xml(name: str, **fields: str) -> bytes:
    inner = "".join(f"<{field}>{value}</{field}>" for field, value in fields.items())
    return f"<{name}>{inner}</{name}>".encode()


class S3:
    """The server; `environment` is what a process needs to find it."""

    def __init__(self) -> None:
        self.store = Store()
        handler = type("Bound", (Handler,), {"store": self.store})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "name",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
