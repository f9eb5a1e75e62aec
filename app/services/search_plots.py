"""Where the points of a search lie in a plot: cost to the right, on a logarithmic axis, the metric upwards.

Knows no markup: the template of the page draws what is placed here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from app.contracts.search import Figures, Point, Search
from app.services.search_sheets import mark
from app.services.sheets import shown

WIDTH, HEIGHT = 720, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 18, 46
_MOST_TICKS = 5
_MARGIN = 0.08  # of an axis, free beyond the outermost point on either side


@dataclass(frozen=True)
class Dot:
    """One model: where it lies, what it is called, and its look: original, recommended, front, other."""

    x: float
    y: float
    look: str
    told: str


@dataclass(frozen=True)
class Mark:
    """A line of the goal or a tick of an axis, across the whole plot at `at`."""

    at: float
    told: str


@dataclass(frozen=True)
class Plot:
    """One scatter plot, in units of its view box."""

    title: str
    across: str
    dots: list[Dot]
    front: str
    columns: list[Mark]
    rows: list[Mark]
    most: Mark | None
    least: Mark | None


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return round numbers, three to six of them."""
        rough = (self.high - self.low) / 3
        scale = 10 ** math.floor(math.log10(rough))
        step: float = scale * next(factor for factor in (5, 2, 1) if factor * scale <= rough)
        return [index * step for index in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]

    def magnitudes(self) -> list[float]:
        """Return logarithms of round numbers, two to five of them."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = [power + math.log10(factor) for power in powers for factor in factors]
            inside = [value for value in found if self.low <= value <= self.high]
            if 2 <= len(inside) <= _MOST_TICKS:  # noqa: PLR2004  # two make a scale
                return inside
        return [self.low + share * (self.high - self.low) for share in (0.2, 0.8)]


_COSTS: dict[str, Callable[[Figures], float | None]] = {
    "file_bytes": lambda figures: figures.file_bytes,
    "p50_ms": lambda figures: figures.p50_ms,
}
_ACROSS = {"file_bytes": "file size, logarithmic", "p50_ms": "median time of one call, logarithmic"}


def plots(search: Search) -> list[Plot]:
    """Return size against the metric, and latency against the metric where it was measured."""
    goal = search.goal
    size = _plot(search, "file_bytes", "Size", goal.max_size_bytes)
    latency = _plot(search, "p50_ms", f"Latency at batch {goal.batch_size}", goal.max_p50_ms)
    return [plot for plot in (size, latency) if plot is not None]


def _plot(search: Search, figure: str, title: str, bound: float | None) -> Plot | None:
    cost = _COSTS[figure]
    found = _measured(search, figure)
    if not found:
        return None
    before, score = cost(search.original), search.original.validation
    least = score - search.goal.max_drop if score is not None else None
    costs = [spent for _, spent, _ in found] + [value for value in (before, bound) if value]
    scores = [reached for _, _, reached in found] + [value for value in (score, least) if value is not None]
    x = _axis([math.log10(value) for value in costs], _LEFT, WIDTH - _RIGHT)
    y = _axis(scores, HEIGHT - _BOTTOM, _TOP)
    dots = [
        _dot(search, point, x.place(math.log10(spent)), y.place(reached), shown(figure, spent))
        for point, spent, reached in found
    ]
    if before and score is not None:
        dots.insert(0, Dot(x.place(math.log10(before)), y.place(score), "original", "the original"))
    return Plot(
        title=f"{title} against {search.metric.replace('_', ' ')} on validation rows",
        across=_ACROSS[figure],
        dots=dots,
        front=_staircase([(spent, reached) for _, spent, reached in found], x, y),
        columns=[Mark(x.place(tick), shown(figure, 10**tick)) for tick in x.magnitudes()],
        rows=[Mark(y.place(tick), shown(search.metric, tick)) for tick in y.ticks()],
        most=Mark(x.place(math.log10(bound)), f"at most {shown(figure, bound)}") if bound else None,
        least=Mark(y.place(least), f"at least {shown(search.metric, least)}") if least is not None else None,
    )


def _measured(search: Search, figure: str) -> list[tuple[Point, float, float]]:
    found = []
    for point in search.points:
        spent = _COSTS[figure](point.figures) if point.figures else None
        if spent and point.figures and point.figures.validation is not None:
            found.append((point, spent, point.figures.validation))
    return found


def _axis(values: list[float], start: float, end: float) -> _Axis:
    low, high = min(values), max(values)
    room = _MARGIN * (high - low) or 0.05 * abs(high) or 1.0
    return _Axis(low - room, high + room, start, end)


def _dot(search: Search, point: Point, x: float, y: float, cost: str) -> Dot:
    told = mark(search, point)
    look = told if told == "recommended" else "front" if "front" in told else "other"
    score = point.figures.validation if point.figures else None
    reached = f", {search.metric.replace('_', ' ')} {shown(search.metric, score)}" if score is not None else ""
    return Dot(x, y, look, f"{point.name}: {cost}{reached}{f' ({told})' if told else ''}")


def _staircase(found: list[tuple[float, float]], x: _Axis, y: _Axis) -> str:
    """Return the border of what was reached in these two figures: the best score for at most that cost."""
    corners: list[str] = []
    best: float | None = None
    for spent, reached in sorted(found, key=lambda pair: (pair[0], -pair[1])):
        if best is not None and reached <= best:
            continue
        across = x.place(math.log10(spent))
        corners += [f"{across},{y.place(best)}"] if best is not None else []
        corners.append(f"{across},{y.place(reached)}")
        best = reached
    return " ".join(corners)
