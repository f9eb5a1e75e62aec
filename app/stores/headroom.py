"""How much of a limit is known to be free, so that not every submission counts what waits. Knows no table."""

import time
from collections.abc import Callable

_HOLDS_S = 1.0
_SHARE = 10  # so many gateways can take their parts of what is free and not pass the limit together


class Headroom:
    """Remembers for a second that much is free: until a tenth of it is taken here, nothing is counted again.

    Close to a limit a tenth is nothing, so every submission counts, and the limit is exact.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing."""
        self._clock = clock
        self._held: dict[tuple[str, int], tuple[float, int]] = {}

    def take(self, name: str, limit: int, count: Callable[[], int]) -> bool:
        """Return whether one more fits under the limit of this name; asks `count` when that is not known."""
        until, left = self._held.get((name, limit), (0.0, 0))
        if left > 0 and self._clock() < until:
            self._held[name, limit] = until, left - 1
            return True
        free = limit - count()
        self._held = {other: held for other, held in self._held.items() if held[0] > self._clock()}
        if free >= _SHARE:
            self._held[name, limit] = self._clock() + _HOLDS_S, free // _SHARE - 1
        return free > 0
