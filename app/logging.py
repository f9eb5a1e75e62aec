"""JSON log lines for gateway and workers: one object per line, secrets redacted, strangers' names made harmless."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import structlog

_MAX_CHARS = 200  # a name from a model may be megabytes long
_MAX_EVENT_CHARS = 2_000
_MAX_TRACE_CHARS = 8_000
_TRACES = {"exception", "stderr"}
_SECRET_WORDS = ("secret", "password", "token", "authorization", "api_key", "signature", "cookie")
_HIDDEN = "[redacted]"


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


def harmless(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Redact values under secret-looking names and escape and shorten text; a structlog processor."""
    safe = {key: _safe(key, value) for key, value in event.items() if key != "event"}
    return {"event": printable(str(event.get("event", "")), _MAX_EVENT_CHARS), **safe}


def _safe(key: str, value: object) -> Any:  # noqa: ANN401 - a log value is anything that JSON can say
    if any(word in key.lower() for word in _SECRET_WORDS):
        return _HIDDEN
    if isinstance(value, Mapping):
        return {str(name): _safe(str(name), inner) for name, inner in value.items()}
    if isinstance(value, str):
        return printable(value, _MAX_TRACE_CHARS if key in _TRACES else _MAX_CHARS)
    return value


def printable(text: str, limit: int = _MAX_CHARS) -> str:
    """Return `text` with control and direction-changing characters escaped, cut at `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in cut)
