"""Tables of a report and figures as people read them; every cell is text already."""

from dataclasses import dataclass

from app.contracts.report import Estimate

_BYTE_FIGURES = frozenset({"file_bytes", "zstd_bytes", "resident_bytes"})
_SHARE_FIGURES = frozenset({"accuracy", "macro_recall", "macro_f1", "micro_f1", "agreement"})


@dataclass(frozen=True)
class Sheet:
    """One table for people: every cell is text already."""

    title: str
    header: list[str]
    rows: list[list[str]]


def shown(figure: str, value: float) -> str:
    """Return a figure's value with its unit."""
    if figure in _BYTE_FIGURES:
        return bytes_shown(value)
    if figure in _SHARE_FIGURES:
        return f"{value:.2%}"
    if figure.partition("@")[0].endswith("_ms"):
        return f"{value:.3g} ms"
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def interval(figure: str, estimate: Estimate | None, rows: str) -> str:
    """Return a difference with its interval and the rows behind it; shares in percentage points."""
    if estimate is None:
        return ""
    sample = f"n = {estimate.samples:,} {rows}"
    if figure in _SHARE_FIGURES:
        low, value, high = (f"{100 * part:+.2f}" for part in (estimate.low, estimate.value, estimate.high))
        return f"{value} points [{low}, {high}], {sample}"
    return f"{estimate.value:+.4g} [{estimate.low:+.4g}, {estimate.high:+.4g}], {sample}"


def drop_shown(figure: str, drop: float | None) -> str:
    """Return how much a score lost; shares in percentage points, a gain with its minus."""
    if drop is None:
        return ""
    return f"{100 * drop:.2f} points" if figure in _SHARE_FIGURES else f"{drop:.4f}"


def times(ratio: float | None) -> str:
    """Return a ratio: `3.10×`."""
    return f"{ratio:.2f}×" if ratio is not None else ""


def bytes_shown(size: float) -> str:
    """Return bytes with k, M or G in powers of 1000."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size:.0f} B"
