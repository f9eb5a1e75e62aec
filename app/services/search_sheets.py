"""What a job with a goal found, as a table of points."""

from app.contracts.recipe import Recipe
from app.contracts.search import Point, Search
from app.errors import Conflict, TimeLimitExceeded
from app.services.sheets import Sheet, bytes_shown, drop_shown, shown, times

_POINT_HEADER = [
    *("candidate", "", "round", "file", "smaller", "p50", "faster", "memory", "validation drop"),
    *("test drop", "most that a class lost", "p50: predicted, measured", "misses", "job"),
]
# Why a candidate has no figures where that is no fault of its own.
_UNMEASURED = {TimeLimitExceeded.slug: "time was up", Conflict.slug: "cancelled"}


def search_sheet(search: Search) -> Sheet:
    """Return the points, the recommended first."""
    return Sheet("What was found", _POINT_HEADER, [_point_row(search, point) for point in ranked(search)])


def recommended_recipe(search: Search | None) -> Recipe | None:
    """Return the recipe of the point that is recommended, if one is."""
    points = search.points if search else []
    return next((point.recipe for point in points if search and point.job == search.recommended), None)


def mark(search: Search, point: Point) -> str:
    """Say what distinguishes a point: recommended, on the front, close to the goal, or why it has no figures."""
    if point.job == search.recommended:
        return "recommended"
    if point.figures is None:
        return _UNMEASURED.get(point.error.name if point.error else "", "failed")
    told = ["front"] if point.job in search.front else []
    return ", ".join([*told, "nearest"] if point.job in search.nearest else told)


def ranked(search: Search) -> list[Point]:
    """Return the points: the recommended first, then the front by size, then the others, last what was not measured."""

    def place(point: Point) -> tuple[int, int]:
        if point.figures is None:
            return 3, 0
        first = 0 if point.job == search.recommended else 1 if point.job in search.front else 2
        return first, point.figures.file_bytes

    return sorted(search.points, key=place)


def _point_row(search: Search, point: Point) -> list[str]:
    figures = point.figures
    return [
        point.name,
        mark(search, point),
        str(point.round),
        bytes_shown(figures.file_bytes) if figures else "",
        times(point.smaller),
        _ms(figures.p50_ms if figures else None),
        times(point.faster),
        bytes_shown(figures.resident_bytes) if figures and figures.resident_bytes is not None else "",
        drop_shown(search.metric, point.validation_drop),
        drop_shown(search.metric, point.test_drop),
        drop_shown("accuracy", point.recall_drop),  # a recall is a share, whatever the metric
        _predicted(point),
        point.error.title if point.error else "; ".join(point.misses),
        point.job,
    ]


def _predicted(point: Point) -> str:
    measured = point.figures.p50_ms if point.figures else None
    if point.predicted_p50_ms is None:
        return ""
    told = f"{_ms(point.predicted_p50_ms)}, {_ms(measured) or 'not measured'}"
    return f"{told} ({point.predicted_p50_ms / measured - 1:+.0%})" if measured else told


def _ms(value: float | None) -> str:
    return shown("p50_ms", value) if value is not None else ""
