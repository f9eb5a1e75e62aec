"""Traces: what a request causes, told to a collector as spans. Off unless a setting names a collector.

One text says where a span belongs, the `traceparent` of W3C Trace Context: clients send it, rows of `work` keep it, a
span is begun under it. Knows no library of traces; `app.otlp` does, and is loaded only when they are on.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from app.errors import ModelpressError
from app.settings import Settings

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool
# Version 00. Of a later one the part that this one has counts, and may be followed by more; ff is never a version.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True)
class Opening:
    """A span to begin: under `parent`, a traceparent; without one it is begun only if it may be a `root`.

    `at_s` is its beginning in Unix seconds, now by default. A given `span_id`, of 16 hexadecimal digits, is one that
    others can work out. `links` are traceparents.
    """

    name: str
    parent: str | None
    kind: Kind = "internal"
    attributes: Mapping[str, Value] = field(default_factory=dict)
    at_s: float | None = None
    span_id: str | None = None
    links: tuple[str, ...] = ()
    root: bool = False


class Span(Protocol):
    """Something that takes time; ends with a `with` block, or by `end`. None of this raises."""

    @property
    def traceparent(self) -> str | None:
        """Where what it causes belongs; None while traces are off."""

    def begin(
        self,
        name: str,
        attributes: Mapping[str, Value] | None = None,
        at_s: float | None = None,
        span_id: str | None = None,
    ) -> "Span":
        """Begin a part of it; times and ids as in an `Opening`."""

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add what is known by now."""

    def rename(self, name: str) -> None:
        """Call it something else."""

    def fail(self, kind: str) -> None:
        """Note that it went wrong; `kind` is one of few."""

    def end(self, at_s: float | None = None) -> None:
        """Tell of it. A span that is not ended is not told of."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Traces(Protocol):
    """Where spans go."""

    @property
    def dropped(self) -> int:
        """How many spans were ended and reached no collector."""

    def begin(self, opening: Opening) -> Span:
        """Begin a span."""

    def close(self) -> None:
        """Send what is left, for a second at most."""


class NoSpan:
    """What is begun while traces are off."""

    traceparent: str | None = None

    def begin(
        self,
        name: str,
        attributes: Mapping[str, Value] | None = None,
        at_s: float | None = None,
        span_id: str | None = None,
    ) -> Span:
        """Begin nothing."""
        del name, attributes, at_s, span_id
        return self

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Forget them."""

    def rename(self, name: str) -> None:
        """Forget it."""

    def fail(self, kind: str) -> None:
        """Forget it."""

    def end(self, at_s: float | None = None) -> None:
        """Tell nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class Off:
    """No traces."""

    @property
    def dropped(self) -> int:
        """None."""
        return 0

    def begin(self, opening: Opening) -> Span:
        """Begin nothing."""
        del opening
        return NoSpan()

    def close(self) -> None:
        """Have nothing to send."""


class Drops(Collector):
    """Tells Prometheus how many spans were dropped."""

    def __init__(self, traces: Traces) -> None:
        """Watch these traces."""
        self._traces = traces

    def collect(self) -> Iterable[Metric]:
        """Tell the number of now."""
        meaning = "spans that were dropped because the collector was away, slow or refused them"
        yield CounterMetricFamily("modelpress_spans_dropped", meaning, value=self._traces.dropped)


def open_traces(settings: Settings, part: str | None) -> Traces:
    """Return where a part of the service (`gateway`, `worker`, `sweeper`) sends spans; a command, None, sends none.

    Contacts nobody.
    """
    if not settings.traces_url or part is None:
        return Off()
    from app.otlp import Otlp  # noqa: PLC0415 - takes a quarter of a second, which only those pay who want it

    return Otlp(settings, f"modelpress-{part}")


def understood(header: str | None) -> str | None:
    """Return a traceparent in the form of version 00, or None when it cannot be read, as W3C Trace Context has it."""
    found = _TRACEPARENT.fullmatch(header.strip()) if header is not None else None
    if found is None or (found[1] == "00" and found[5]):
        return None
    return f"00-{found[2]}-{found[3]}-{int(found[4], 16) & 1:02x}"


def trace_id(traceparent: str | None) -> str | None:
    """Return the id of the trace that a traceparent belongs to."""
    return traceparent.split("-")[1] if traceparent else None


def derived(*words: object) -> str:
    """Return a span's id that follows from these words, so that whoever knows them can name it."""
    return hashlib.sha256(" ".join(map(str, words)).encode()).hexdigest()[:16]


def kind_of(error: BaseException) -> str:
    """Return what `error.type` is: the problem's name, else that of the class."""
    return error.slug if isinstance(error, ModelpressError) else type(error).__name__


def logged(traceparent: str | None) -> dict[str, str]:
    """Return what log lines carry."""
    found = trace_id(traceparent)
    return {"trace_id": found} if found else {}
