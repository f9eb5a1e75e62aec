"""Who asks, and what the answer may use. Every service takes a Caller first."""

from dataclasses import dataclass
from datetime import UTC, datetime

from app.resources import Resources


@dataclass(frozen=True)
class Caller:
    """A tenant and the resources of this process."""

    tenant: str
    resources: Resources


def timestamp(seconds: float) -> datetime:
    """Return Unix seconds as an aware time."""
    return datetime.fromtimestamp(seconds, UTC)
