"""What every answer has: a request id, security headers, a log line, figures; and a last net for our own faults."""

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import audit
from app.api.problems import METHODS, problem_response
from app.errors import HeadersTooLarge, ModelpressError, PayloadTooLarge, UnsupportedEncoding
from app.heads import MAX_HEAD_BYTES
from app.traces import NoSpan, Opening, Span, Traces, logged, understood

SMALL_BODY_BYTES = 1 << 20  # JSON calls; the streaming ones have limits of their own
_READING = ("GET", "HEAD", "OPTIONS")
_OUR_FAULT = 500
_STREAMED = ("/v1/uploads", "/v1/models", "/v1/datasets")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_POLICY = (
    b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'"
)
# As they go over the wire; what a route says for itself stays.
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", _POLICY),
]
_API_HEADERS = [*_HEADERS, (b"cache-control", b"no-store")]
_log = structlog.get_logger()


@dataclass(frozen=True)
class Served:
    """One request that was answered: `route` is the path's pattern, so that it counts few kinds."""

    method: str
    route: str
    status: int
    seconds: float


class Envelope:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, count: Callable[[Served], None], traces: Traces) -> None:
        self._app = app
        self._count, self._traces = count, traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._traces)
        told = {"request_id": exchange.request_id, **logged(exchange.span.traceparent)}
        with structlog.contextvars.bound_contextvars(**told):
            try:
                await self._handle(exchange)
            finally:
                self._count(exchange.served())
                exchange.end_span()

    async def _handle(self, exchange: "_Exchange") -> None:
        refusal = exchange.refusal()
        if refusal is not None:
            await exchange.refuse(refusal)
            return
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except ModelpressError as error:
            if exchange.status:  # in mid-answer: breaking off tells the client that it is not whole
                _log.warning("answer broken off", problem=error.slug, request_id=exchange.request_id)
                raise
            await exchange.refuse(error)
        except Exception:
            _log.exception("unexpected error", request_id=exchange.request_id, path=exchange.scope["path"])
            if exchange.status:
                raise
            await exchange.refuse(ModelpressError())


class _Exchange:
    """One request and its answer on their way through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, traces: Traces) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.headers = Headers(scope=scope)
        given = self.headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else f"req-{secrets.token_hex(8)}"
        self.span = _begun(traces, scope, self.headers)
        scope.setdefault("state", {}).update(request_id=self.request_id, span=self.span)
        self.status, self._received, self._began = 0, 0, time.monotonic()
        self._location = ""
        self._small = not scope["path"].startswith(_STREAMED)

    def refusal(self) -> ModelpressError | None:
        """Return why the request cannot be taken at all, or None."""
        scope = self.scope
        head = len(scope["raw_path"] or b"") + len(scope["query_string"]) + sum(map(len, chain(*scope["headers"])))
        if head > MAX_HEAD_BYTES:
            return HeadersTooLarge(f"Path, query and headers may have {MAX_HEAD_BYTES} bytes together.")
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            return UnsupportedEncoding("Send the body without Content-Encoding.")
        length = self.headers.get("content-length", "0")
        if self._small and length.isdigit() and int(length) > SMALL_BODY_BYTES:
            return PayloadTooLarge(f"The body may have up to {SMALL_BODY_BYTES} bytes here.")
        return None

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._small and self._received > SMALL_BODY_BYTES:
            raise HTTPException(PayloadTooLarge.status)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            self._location = headers.get("location", "")
            headers["X-Request-Id"] = self.request_id
            if self.span.traceparent is not None:
                headers["Traceresponse"] = self.span.traceparent
            allowance = self.scope["state"].get("allowance")
            if allowance is not None:
                headers.update(allowance.headers())
            given = {name for name, _ in headers.raw}
            wanted = _API_HEADERS if self.scope["path"].startswith("/v1/") else _HEADERS
            headers.raw.extend(pair for pair in wanted if pair[0] not in given)
        await self._send(message)

    async def refuse(self, error: ModelpressError) -> None:
        await problem_response(error, self.request_id)(self.scope, self._receive, self.send)

    def served(self) -> Served:
        """Return the figures of this exchange and write its log lines."""
        route = getattr(self.scope.get("route"), "path", "")
        seconds = time.monotonic() - self._began
        _log.info(
            "request",
            method=self.scope["method"],
            path=self.scope["path"][:200],
            status=self.status,
            ms=round(1000 * seconds, 1),
            request_id=self.request_id,
        )
        audit.note(self.scope, self.status, self._location, self.request_id)
        method = self.scope["method"] if self.scope["method"] in METHODS else "other"
        return Served(method, route, self.status, seconds)

    def end_span(self) -> None:
        """End the span, once it is known what was asked for and what came of it."""
        span, known = self.span, self.scope["state"].get("known")
        route = getattr(self.scope.get("route"), "path", "")
        if route and self.scope["path"].startswith("/v1/"):
            route = f"/v1{route.removeprefix('/v1')}"  # routers do not know what they are under
        told: dict[str, str | int] = {
            "http.response.status_code": self.status,
            "modelpress.request.id": self.request_id,
        }
        if route:
            span.rename(f"{self.scope['method']} {route}")
            told["http.route"] = route
        if known is not None:
            told["modelpress.tenant.id"] = known.tenant
        span.note(told)
        if self.status >= _OUR_FAULT or not self.status:
            span.fail(str(self.status or "no answer"))
        span.end()


def _begun(traces: Traces, scope: Scope, headers: Headers) -> Span:
    """Begin the span of what asks for work, and of whatever the client traces.

    Followers read all the time, and so do probes: who wants to see those in a trace says so.
    """
    parent = understood(headers.get("traceparent"))
    method = scope["method"] if scope["method"] in METHODS else "_OTHER"
    if parent is None and method in _READING:
        return NoSpan()
    attributes = {"http.request.method": method, "url.scheme": scope["scheme"], "url.path": scope["path"][:200]}
    return traces.begin(Opening(method, parent, "server", attributes, root=True))
