"""Who asks, and what the answer may use. Every service takes a Caller first."""

from dataclasses import dataclass
from datetime import UTC, datetime

from app.resources import Resources


@dataclass(frozen=True)
class Caller:
    """A tenant, the resources of this process, the id of the key that opened, for the audit log, the call's trace."""

    tenant: str
    resources: Resources
    key: str | None = None
    trace: str | None = None  # traceparent of the call


def timestamp(seconds: float) -> datetime:
    """Return Unix seconds as an aware time."""
    return datetime.fromtimestamp(seconds, UTC)
