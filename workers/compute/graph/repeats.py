"""The best repeat in a sequence: which stretch of it is one pattern over and over. Knows no graph."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Repeat:
    """Items `start` to `end` (exclusive) are whole copies of one pattern of `period` items, at least two."""

    start: int
    end: int
    period: int


def find_repeats(items: Sequence[Hashable], worthy: Sequence[bool], leading: Sequence[bool]) -> Repeat | None:
    """Return the repeat that covers most items, of those the shortest period; None if nothing repeats.

    A pattern must hold a `worthy` item. It may be cut at any of its items: a cut that gives more copies wins, then one
    before a `leading` item, then one before a worthy item, then the earliest.
    """
    runs = [run for run in _runs(items) if any(worthy[run.start : run.start + run.period])]
    if not runs:
        return None
    best = min(runs, key=lambda run: (-_whole(run), run.period, run.start))
    starts = range(best.start, best.start + best.period)
    start = min(starts, key=lambda first: (-_copies(best, first), not leading[first], not worthy[first], first))
    return Repeat(start, start + _copies(best, start) * best.period, best.period)


def _runs(items: Sequence[Hashable]) -> Iterator[Repeat]:
    """Yield each longest stretch in which every item equals the one a period later, if it has two whole copies."""
    for period in range(1, len(items) // 2 + 1):
        start = 0
        while start + period < len(items):
            end = start
            while end + period < len(items) and items[end] == items[end + period]:
                end += 1
            if end - start >= period:
                yield Repeat(start, end + period, period)
            start = end + 1


def _copies(run: Repeat, start: int) -> int:
    return (run.end - start) // run.period


def _whole(run: Repeat) -> int:
    return _copies(run, run.start) * run.period
