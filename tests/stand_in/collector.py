"""A collector of traces: OTLP over HTTP on loopback, as protobuf. May be slow, or refuse.

`python -m tests.stand_in.collector spans.jsonl 4318` is one that writes what it gets, for `tools/draw_trace.py`.
"""

import gzip
import json
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire

KINDS = {
    Wire.SPAN_KIND_INTERNAL: "internal",
    Wire.SPAN_KIND_SERVER: "server",
    Wire.SPAN_KIND_CLIENT: "client",
    Wire.SPAN_KIND_PRODUCER: "producer",
    Wire.SPAN_KIND_CONSUMER: "consumer",
}


@dataclass(frozen=True)
class Got:
    """A span as it arrived; times in Unix seconds, ids in hexadecimal."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: float
    end: float
    attributes: dict[str, object]
    links: list[str]
    failed: bool


class Collector:
    """Takes spans in a thread of its own."""

    def __init__(self, *, delay_s: float = 0.0, status: int = 200, port: int = 0, file: Path | None = None) -> None:
        self.spans: list[Got] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                time.sleep(delay_s)
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                collector.bodies.append(body)
                if status == 200 and self.path == "/v1/traces":
                    collector.take(spans_of(body), file)
                self.send_response(status if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, spans: list[Got], file: Path | None) -> None:
        self.spans.extend(spans)
        if file is not None:
            with file.open("a", encoding="utf-8") as lines:
                lines.writelines(f"{json.dumps(asdict(span))}\n" for span in spans)

    def of(self, trace: str) -> list[Got]:
        """Return a trace's spans by their beginning."""
        return sorted((span for span in list(self.spans) if span.trace == trace), key=lambda span: span.start)


def spans_of(body: bytes) -> list[Got]:
    request = ExportTraceServiceRequest.FromString(body)
    found = []
    for resource in request.resource_spans:
        told = {pair.key: value_of(pair.value) for pair in resource.resource.attributes}
        for scope in resource.scope_spans:
            found += [got_of(str(told["service.name"]), span) for span in scope.spans]
    return found


def got_of(service: str, span: Wire) -> Got:
    return Got(
        service=service,
        name=span.name,
        kind=KINDS[span.kind],
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        attributes={pair.key: value_of(pair.value) for pair in span.attributes},
        links=[link.span_id.hex() for link in span.links],
        failed=span.status.code == 2,
    )


def value_of(value: AnyValue) -> object:
    return getattr(value, value.WhichOneof("value"))


def main(file: str, port: int) -> None:
    """Write each span that comes as a line of JSON, until the process ends."""
    with Collector(port=port, file=Path(file)) as collector:
        sys.stdout.write(f"{collector.url}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
