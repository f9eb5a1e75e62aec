"""How many calls a tenant may make: a token bucket per tenant, in this process alone.

With several gateways a tenant has so many at each of them. That is enough to keep one from drowning the others, and
costs no call to anywhere.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Allowance:
    """What was decided about one call: whether it may be made, and what is left for the next ones."""

    granted: bool
    left: int
    burst: int
    per_s: float
    wait_s: int
    full_s: int

    def headers(self) -> dict[str, str]:
        """Return the fields of draft-ietf-httpapi-ratelimit-headers-10."""
        window_s = max(1, math.ceil(self.burst / self.per_s))
        return {
            "RateLimit-Policy": f'"tenant";q={self.burst};w={window_s}',
            "RateLimit": f'"tenant";r={self.left};t={self.full_s}',
        }


@dataclass
class _Bucket:
    tokens: float
    at: float


class Rates:
    """The buckets of this process: each holds `burst` calls at most and fills at `per_s` calls a second."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, tenant: str) -> Allowance | None:
        """Take one call from the tenant's bucket if it holds one; None where calls are not limited."""
        if self._per_s <= 0:
            return None
        now = self._clock()
        bucket = self._buckets.setdefault(tenant, _Bucket(self._burst, now))
        bucket.tokens = min(float(self._burst), bucket.tokens + (now - bucket.at) * self._per_s)
        bucket.at = now
        granted = bucket.tokens >= 1
        if granted:
            bucket.tokens -= 1
        wait_s = max(1, math.ceil((1 - bucket.tokens) / self._per_s))
        full_s = math.ceil((self._burst - bucket.tokens) / self._per_s)
        return Allowance(granted, int(bucket.tokens), self._burst, self._per_s, wait_s, full_s)
