"""Sends spans by OTLP over HTTP, through OpenTelemetry's SDK. Loaded only when traces are on.

Everything is said to the SDK explicitly: it would read the environment by itself, which `app.settings` alone may.
Nobody waits for a collector: spans wait in a bounded queue; what does not fit, or is not taken, is dropped and counted.
"""

import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from platform import node
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import requests
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from app.settings import Settings
from app.traces import Kind, NoSpan, Opening, Span, Value, kind_of

_PATH = "/v1/traces"  # of OTLP over HTTP, where the address names none
_MOST_WAITING = 2_048  # some megabytes
_AT_ONCE = 256
_EVERY_MS = 500.0
_TIMEOUT_S = 3.0  # of sending, with all tries
_LAST_S = 1.0  # a shutdown waits no longer
_KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class Otlp:
    """Spans of this process, on their way to a collector."""

    def __init__(self, settings: Settings, service: str) -> None:
        """Prepare; nobody is contacted before the first span has ended."""
        self._ids, self._outlet = _Ids(), _Outlet(_exporter(settings))
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.traces_share)),
            resource=Resource(
                {
                    "service.name": service,
                    "service.namespace": "modelpress",
                    "service.version": version("modelpress"),
                    "service.instance.id": str(uuid4()),
                    "host.name": node(),
                }
            ),
            shutdown_on_exit=False,
            id_generator=self._ids,
            meter_provider=NoOpMeterProvider(),
        )
        self._provider.add_span_processor(self._outlet)
        self._tracer = self._provider.get_tracer("modelpress", version("modelpress"))

    @property
    def dropped(self) -> int:
        """How many spans were ended and reached no collector."""
        return self._outlet.dropped

    def begin(self, opening: Opening) -> Span:
        """Begin a span."""
        if opening.parent is None and not opening.root:
            return NoSpan()
        self._ids.next_is(opening.span_id)
        found = self._tracer.start_span(
            opening.name,
            context=_under(opening.parent),
            kind=_KINDS[opening.kind],
            attributes=dict(opening.attributes),
            links=[Link(_context_of(link)) for link in opening.links],
            start_time=_nanoseconds(opening.at_s),
        )
        return _Span(self, found)

    def close(self) -> None:
        """Send what is left, for a second at most."""
        # The SDK would wait for half a minute for a collector that is away; its threads end with the process.
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(_LAST_S)


class _Span:
    def __init__(self, traces: Otlp, span: trace.Span) -> None:
        self._traces, self._span = traces, span

    @property
    def traceparent(self) -> str | None:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & TraceFlags.SAMPLED:02x}"

    def begin(
        self,
        name: str,
        attributes: Mapping[str, Value] | None = None,
        at_s: float | None = None,
        span_id: str | None = None,
    ) -> Span:
        return self._traces.begin(Opening(name, self.traceparent, "internal", attributes or {}, at_s, span_id))

    def note(self, attributes: Mapping[str, Value]) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self, at_s: float | None = None) -> None:
        self._span.end(_nanoseconds(at_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(kind_of(error))
        self.end()


class _Ids(RandomIdGenerator):
    """Random ids, except where the next one was chosen."""

    def __init__(self) -> None:
        self._chosen = threading.local()

    def next_is(self, span_id: str | None) -> None:
        """Choose the next id of this thread; None: a random one."""
        self._chosen.span_id = span_id

    def generate_span_id(self) -> int:
        chosen, self._chosen.span_id = getattr(self._chosen, "span_id", None), None
        return int(chosen, 16) if chosen else super().generate_span_id()


class _Outlet(BatchSpanProcessor):
    """The SDK's queue, which counts what it drops."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._lock, self._waiting, self.dropped = threading.Lock(), 0, 0
        counted = _Counted(exporter, self._sent)
        super().__init__(
            counted,
            max_queue_size=_MOST_WAITING,
            schedule_delay_millis=_EVERY_MS,
            max_export_batch_size=_AT_ONCE,
            export_timeout_millis=1_000 * _TIMEOUT_S,
            meter_provider=NoOpMeterProvider(),
        )

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._lock:
            if self._waiting >= _MOST_WAITING:
                self.dropped += 1
                return
            self._waiting += 1
        super().on_end(span)

    def _sent(self, count: int, *, taken: bool) -> None:
        with self._lock:
            self._waiting -= count
            self.dropped += 0 if taken else count


class _Sent(Protocol):
    def __call__(self, count: int, *, taken: bool) -> None: ...


class _Counted(SpanExporter):
    """An exporter that tells how each batch went."""

    def __init__(self, exporter: SpanExporter, sent: _Sent) -> None:
        self._exporter, self._sent = exporter, sent

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._sent(len(spans), taken=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _exporter(settings: Settings) -> OTLPSpanExporter:
    session = requests.Session()
    session.trust_env = False  # no proxy and no password of the environment
    address = urlsplit(settings.traces_url)
    return OTLPSpanExporter(
        endpoint=address._replace(path=address.path if address.path.strip("/") else _PATH).geturl(),
        headers=_headers(settings.traces_headers.get_secret_value()),
        timeout=_TIMEOUT_S,
        compression=Compression.Gzip,
        session=session,
        meter_provider=NoOpMeterProvider(),
    )


def _headers(text: str) -> dict[str, str]:
    """Return the headers of `name=value,name=value`, values percent-encoded, as OpenTelemetry writes them."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


def _under(parent: str | None) -> Context | None:
    """Return the context to begin a span in: never that of the thread."""
    if parent is None:
        return Context()
    return trace.set_span_in_context(NonRecordingSpan(_context_of(parent)), Context())


def _context_of(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _nanoseconds(at_s: float | None) -> int | None:
    return None if at_s is None else int(at_s * 1_000_000_000)
