"""Draw a trace as a picture: `python -m tools.draw_trace spans.jsonl TRACE_ID trace.png`.

The spans are those that `python -m tests.stand_in.collector` wrote, a line of JSON each.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.pictures import COLOURS, INK, PALE, RULE, line, text, write_png

Span = dict[str, Any]
_ROW, _NAMES, _BARS, _TOP = 21, 270, 800, 62  # pixels
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_TICKS = 10
_FAILED = "#c0392b"


def ordered(spans: list[Span], parent: str | None = None, depth: int = 0) -> Iterator[tuple[int, Span]]:
    """Yield depth and span, each followed by what is below it; what has no parent here stands at the top."""
    known = {span["id"] for span in spans}
    mine = [s for s in spans if s["parent"] == parent or (parent is None and s["parent"] not in known)]
    for span in sorted(mine, key=lambda one: (one["start"], -one["end"])):
        yield depth, span
        yield from ordered(spans, span["id"], depth + 1)


def draw(spans: list[Span], path: Path) -> None:
    """Draw the spans of one trace."""
    rows = list(ordered(spans))
    began, ended = min(span["start"] for span in spans), max(span["end"] for span in spans)
    scale = _BARS / (ended - began)
    width, height = _NAMES + _BARS + 90, _TOP + _ROW * len(rows) + 12
    services = sorted({span["service"] for span in spans})
    parts = [*_head(services), *_axis(ended - began, scale, height)]
    places = {span["id"]: _TOP + _ROW * number for number, (_depth, span) in enumerate(rows)}
    for depth, span in rows:
        y, x = places[span["id"]], _NAMES + (span["start"] - began) * scale
        parts += _bar(span, (x, y), scale, COLOURS[services.index(span["service"])])
        parts.append(text(12 + 14 * depth, y + 14, span["name"], colour=_FAILED if span["failed"] else INK))
        for linked in (places[link] for link in span["links"] if link in places):
            parts.append(line((x, y + 3), (x, linked + _ROW - 3), colour=_FAILED, width=1.5))
    write_png(parts, (width, height), path)


def _head(services: list[str]) -> Iterator[str]:
    for number, service in enumerate(services):
        x = 12 + 190 * number
        yield f'<rect x="{x}" y="10" width="12" height="12" rx="2" fill="{COLOURS[number]}"/>'
        yield text(x + 18, 21, service)
    x = 12 + 190 * len(services)
    yield text(x, 21, "red: failed; a red line leads from an attempt to the lost one it is linked to", colour=_FAILED)


def _axis(duration_s: float, scale: float, height: int) -> Iterator[str]:
    step = next((one for one in _STEPS_S if duration_s / one <= _TICKS), _STEPS_S[-1])
    for number in range(int(duration_s / step) + 1):
        x = _NAMES + number * step * scale
        yield line((x, _TOP - 8), (x, height), colour=RULE)
        yield text(x, _TOP - 14, f"{number * step:g} s", size=11, colour=PALE, anchor="middle")


def _bar(span: Span, place: tuple[float, float], scale: float, colour: str) -> Iterator[str]:
    x, y = place
    width, duration_s = max((span["end"] - span["start"]) * scale, 2.0), span["end"] - span["start"]
    edge = f' stroke="{_FAILED}" stroke-width="2"' if span["failed"] else ""
    yield f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="{_ROW - 8}" rx="2" fill="{colour}"{edge}/>'
    told = f"{duration_s:.1f} s" if duration_s >= 1 else f"{1000 * duration_s:.0f} ms"
    yield text(x + width + 5, y + 14, told, size=11, colour=PALE)


def main(file: Path, trace: str, path: Path) -> None:
    """Draw the trace with this id."""
    spans = [json.loads(said) for said in file.read_text("utf-8").splitlines()]
    found = [span for span in spans if span["trace"] == trace]
    if not found:
        sys.exit(f"{file} holds no span of {trace}")
    draw(found, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
