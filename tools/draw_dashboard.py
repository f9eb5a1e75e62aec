"""Draw the chart's Grafana dashboard with the figures of a Prometheus, without a Grafana.

    python -m tools.draw_dashboard http://127.0.0.1:9090 helm/modelpress/dashboards/modelpress.json dashboard.png 15

asks for the last 15 minutes. A panel whose expression Prometheus refuses ends it with an error.
"""

import json
import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tools.pictures import COLOURS, PALE, RULE, line, text, write_png

Point = tuple[float, float]
_COLUMN, _UNIT = 58, 26  # pixels of one unit of Grafana's grid
_POINTS = 120
_RATE_S = 60  # Grafana's $__rate_interval: at least four scrapes
_LEFT, _TOP, _RIGHT, _LEGEND = 62, 34, 12, 46
_LEGENDS, _LEGEND_CHARS = 6, 36


@dataclass(frozen=True)
class Frame:
    """Where a panel is, in pixels, and what it shows: from and to in Unix seconds, up to which value."""

    x: float
    y: float
    width: float
    height: float
    since: float
    until: float
    top: float

    def place(self, at: float, value: float) -> Point:
        """Return where a value is drawn."""
        share = (at - self.since) / (self.until - self.since)
        return self.x + share * self.width, self.y + self.height * (1 - value / self.top)


@dataclass(frozen=True)
class Series:
    """A line of a panel."""

    name: str
    points: list[Point]


def ask(server: str, expression: str, since: float, until: float) -> list[dict[str, Any]]:
    """Return the series of an expression; exits when Prometheus refuses it."""
    query = {"query": expression, "start": since, "end": until, "step": (until - since) / _POINTS}
    answer = httpx.get(f"{server}/api/v1/query_range", params=query, timeout=30, trust_env=False).json()
    if answer["status"] != "success":
        sys.exit(f"{expression}\n{answer['error']}")
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def series_of(server: str, panel: dict[str, Any], since: float, until: float) -> Iterator[Series]:
    """Yield the lines of a panel, named as its legend has it."""
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", f"{_RATE_S}s").replace("$namespace", "modelpress")
        for found in ask(server, expression, since, until):
            labels = found["metric"]
            name = re.sub(r"\{\{(\w+)\}\}", lambda match, of=labels: of.get(match[1], ""), target["legendFormat"])
            values = [(float(at), float(value)) for at, value in found["values"]]
            yield Series(name, [point for point in values if math.isfinite(point[1])])


def draw(server: str, dashboard: dict[str, Any], path: Path, minutes: float) -> None:
    """Draw every panel at its place."""
    until = time.time()
    since, parts, bottom = until - 60 * minutes, [], 0.0
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        x, y = _COLUMN * grid["x"], _UNIT * grid["y"]
        bottom = max(bottom, y + _UNIT * grid["h"])
        if panel["type"] == "row":
            parts.append(text(x + 12, y + 19, panel["title"], size=15))
            continue
        lines = [one for one in series_of(server, panel, since, until) if one.points]
        top = _rounded_up(max((value for one in lines for _at, value in one.points), default=1.0))
        width, height = _COLUMN * grid["w"] - _LEFT - _RIGHT, _UNIT * grid["h"] - _TOP - _LEGEND - 18
        frame = Frame(x + _LEFT, y + _TOP, width, height, since, until, top)
        parts += _panel(panel, (x, y), frame, lines)
    write_png(parts, (24 * _COLUMN, int(bottom) + 10), path)


def _panel(panel: dict[str, Any], corner: Point, frame: Frame, lines: Sequence[Series]) -> Iterator[str]:
    grid, unit = panel["gridPos"], panel["fieldConfig"]["defaults"].get("unit", "short")
    box = f'x="{corner[0] + 4}" y="{corner[1] + 3}" width="{_COLUMN * grid["w"] - 8}" height="{_UNIT * grid["h"] - 6}"'
    yield f'<rect {box} rx="4" fill="none" stroke="{RULE}"/>'
    yield text(corner[0] + 14, corner[1] + 22, panel["title"], size=13)
    for number in range(3):
        value = frame.top * number / 2
        _, y = frame.place(frame.since, value)
        yield line((frame.x, y), (frame.x + frame.width, y))
        yield text(frame.x - 6, y + 4, written(value, unit), size=10, colour=PALE, anchor="end")
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        at = frame.since + share * (frame.until - frame.since)
        clock = time.strftime("%H:%M", time.gmtime(at))
        yield text(
            frame.x + share * frame.width, frame.y + frame.height + 14, clock, size=10, colour=PALE, anchor=anchor
        )
    if not lines:
        yield text(frame.x + frame.width / 2, frame.y + frame.height / 2, "nothing", colour=PALE, anchor="middle")
    for number, one in enumerate(lines):
        yield _curve(one, frame, COLOURS[number % len(COLOURS)])
    yield from _legend(lines, frame)


def _curve(one: Series, frame: Frame, colour: str) -> str:
    places, before, gap_s = [], None, 2.5 * (frame.until - frame.since) / _POINTS
    for at, value in one.points:
        x, y = frame.place(at, value)
        places.append(f"{'L' if before is not None and at - before < gap_s else 'M'}{x:.1f} {y:.1f}")
        before = at
    # A round end shows a point that stands alone.
    return f'<path d="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linecap="round"/>'


def _legend(lines: Sequence[Series], frame: Frame) -> Iterator[str]:
    shown = lines if len(lines) <= _LEGENDS else lines[: _LEGENDS - 1]
    column = frame.width / 2 if len(lines) > _LEGENDS / 2 else frame.width
    for number in range(min(len(lines), _LEGENDS)):
        x = frame.x - 40 + (number % 2 if column < frame.width else 0) * (column + 20)
        y = frame.y + frame.height + 30 + 14 * (number // 2 if column < frame.width else number)
        if number < len(shown):
            yield line((x, y - 4), (x + 12, y - 4), colour=COLOURS[number % len(COLOURS)], width=3)
        name = shown[number].name if number < len(shown) else f"and {len(lines) - len(shown)} more"
        yield text(x + 17, y, name[:_LEGEND_CHARS], size=10, colour=PALE)


def _rounded_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 6, 8, 10) if step * power >= value * 0.999)


def written(value: float, unit: str) -> str:
    """Return a value in the panel's unit, short."""
    if unit == "bytes":
        for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if value >= size:
                return f"{value / size:g} {name}"
        return f"{value:g} B"
    if unit == "s":
        return f"{value:g} s" if value >= 1 or value == 0 else f"{1000 * value:g} ms"
    return f"{value:g}/s" if unit == "reqps" else f"{value:g}"


def main(server: str, dashboard: Path, path: Path, minutes: float) -> None:
    """Draw the dashboard of a file."""
    draw(server, json.loads(dashboard.read_text("utf-8")), path, minutes)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
