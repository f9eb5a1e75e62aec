"""Pictures of SVG, drawn to PNG by a headless Chromium."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

FONT = "font-family:'DejaVu Sans',sans-serif"
COLOURS = ("#3b7dd8", "#e0812b", "#2f9e62", "#b5476d", "#7a5cc4", "#8a8f2a", "#2a9d9d", "#c0503a", "#5f6b7a")
INK, PALE, RULE = "#1f2933", "#6b7785", "#dde3ea"


def text(x: float, y: float, words: str, *, size: int = 12, colour: str = INK, anchor: str = "start") -> str:
    """Return words whose baseline begins, ends or is centred at a point."""
    style = f"{FONT};font-size:{size}px"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" style="{style}">{escape(words)}</text>'
    )


def line(start: tuple[float, float], end: tuple[float, float], *, colour: str = RULE, width: float = 1.0) -> str:
    """Return a line between two points."""
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def write_png(parts: Sequence[str], size: tuple[int, int], path: Path) -> None:
    """Draw SVG elements on white; `size` is in pixels. Exits when there is no Chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium is installed, which draws the picture")
    width, height = size
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{"".join(parts)}</svg>'
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(f'<!doctype html><meta charset="utf-8"><style>body{{margin:0;background:#fff}}</style>{svg}')
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--window-size={width},{height}", f"--screenshot={path.resolve()}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603 - the browser found above
