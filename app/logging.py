"""JSON log lines for gateway and workers: one object per line, secrets redacted, strangers' names made harmless."""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import structlog

_MAX_CHARS = 200  # a name from a model may be megabytes long
_MAX_EVENT_CHARS = 2_000
_MAX_TRACE_CHARS = 8_000
_TRACES = {"exception", "stderr"}
_OURS = {"_record", "_from_structlog"}  # what structlog hands from one processor to the next
_SECRET_WORDS = ("secret", "password", "token", "authorization", "api_key", "signature", "cookie")
_HIDDEN = "[redacted]"
# Secrets that can be told by their look, wherever they stand: credentials in an address, our keys (whose beginning is
# no secret), secrets of webhooks, and what follows a scheme of the Authorization header.
_LOOKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=://)[^/\s@]*@"), f"{_HIDDEN}@"),
    (re.compile(r"(mp_[A-Za-z0-9]{8})[A-Za-z0-9]{30,}"), rf"\1{_HIDDEN}"),
    (re.compile(r"whsec_[A-Za-z0-9+/=_-]{8,}"), _HIDDEN),
    (re.compile(r"\b(bearer|basic)\s+[^\s\"',}]+", re.IGNORECASE), rf"\1 {_HIDDEN}"),
)

# Most lines hold nothing like it, and one search costs less than four replacements.
_ANY_LOOK = re.compile(r"://|mp_|whsec_|bearer|basic", re.IGNORECASE)


def configure(level: str = "INFO") -> None:
    """Send structlog and the standard library's loggers to standard error as JSON lines. Call once, at start."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        harmless,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    renderer = structlog.processors.JSONRenderer(ensure_ascii=True)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("httpx", "httpcore"):  # they write whole addresses, and a query may be a signature
        logging.getLogger(name).setLevel(logging.WARNING)


def harmless(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Redact secrets by the names and the looks that they have, escape and shorten text; a structlog processor."""
    safe = {key: value if key in _OURS else _safe(key, value) for key, value in event.items() if key != "event"}
    return {"event": printable(redacted(str(event.get("event", ""))), _MAX_EVENT_CHARS), **safe}


def redacted(text: str) -> str:
    """Return `text` without what looks like a secret."""
    if _ANY_LOOK.search(text) is None:
        return text
    for look, instead in _LOOKS:
        text = look.sub(instead, text)
    return text


def _safe(key: str, value: object) -> Any:  # noqa: ANN401 - a log value is anything that JSON can say
    if any(word in key.lower() for word in _SECRET_WORDS):
        return _HIDDEN
    if isinstance(value, Mapping):
        return {str(name): _safe(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(key, inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return printable(redacted(str(value)), _MAX_TRACE_CHARS if key in _TRACES else _MAX_CHARS)


def printable(text: str, limit: int = _MAX_CHARS) -> str:
    """Return `text` with control and direction-changing characters escaped, cut at `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in cut)
