"""Figures as people read them."""

from app.contracts.goal import Goal
from app.contracts.report import Estimate

_KILO = 1000.0
_MINUTE_S = 60
_FIGURES = {
    "file_bytes": "file size",
    "zstd_bytes": "download size (zstd)",
    "resident_bytes": "memory when loaded",
    "load_ms": "load time",
    "parameters": "parameters",
    "nonzeros": "non-zero weights",
    "macs": "MACs per row",
    "peak_activation_bytes": "activations per row, peak",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "throughput_per_s": "rows per second",
}
_SHARES = {"accuracy", "macro_recall", "macro_f1", "micro_f1", "agreement"}


def scaled(value: float, unit: str = "") -> str:
    """Write with k, M, G, T (powers of 1000): 4_200_000 → `4.20 M`."""
    for prefix in ("", "k", "M", "G"):
        if abs(value) < _KILO:
            digits = f"{value:.0f}" if not prefix and value == int(value) else f"{value:.3g}"
            return f"{digits} {prefix}{unit}".strip()
        value /= _KILO
    return f"{value:.3g} T{unit}"


def duration(seconds: float) -> str:
    """Write as `42 s` or `3 min 05 s`."""
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def figure_name(figure: str) -> str:
    """Name a figure of a report: `p50_ms@8` → `latency p50, batch 8`."""
    name, _, batch = figure.partition("@")
    if name.endswith("_ms") and name.startswith("p"):
        return f"latency {name.removesuffix('_ms')}" + (f", batch {batch}" if batch else "")
    title = _FIGURES.get(name, name.replace("_", " "))
    return f"{title}, batch {batch}" if batch else title


def figure_value(figure: str, value: float) -> str:
    """Write a figure's value with its unit."""
    name = figure.partition("@")[0]
    if name.endswith("_bytes"):
        return scaled(value, "B")
    if name.endswith("_ms"):
        return f"{value:.3g} ms"
    if name in _SHARES or name.startswith("recall"):
        return f"{value:.2%}"
    if name in {"parameters", "nonzeros", "macs", "throughput_per_s"}:
        return scaled(value)
    return f"{value:.4g}"


def figure_difference(figure: str, difference: Estimate) -> str:
    """Write a difference with its interval; shares in percentage points."""
    if figure in _SHARES or figure.startswith("recall"):
        value, low, high = (100 * part for part in (difference.value, difference.low, difference.high))
        return f"{value:+.2f} pts ({low:+.2f} to {high:+.2f})"
    return f"{difference.value:+.4g} ({difference.low:+.4g} to {difference.high:+.4g})"


def ratio_value(ratio: Estimate) -> str:
    """Write a ratio with its interval: `3.10× (2.95 to 3.22)`."""
    return f"{ratio.value:.2f}× ({ratio.low:.2f} to {ratio.high:.2f})"


def drop_value(metric: str, drop: float | None) -> str:
    """Write how much a metric lost, a gain with its minus; shares in percentage points."""
    if drop is None:
        return ""
    return f"{100 * drop:.2f} pts" if metric in _SHARES else f"{drop:.4f}"


def goal_words(goal: Goal, task: str) -> str:
    """Write a goal in one line: `least latency, accuracy may lose 1.00 pts, at most 4 MB`."""
    metric = goal.metric_of(task)
    told = [f"least {goal.minimize}", f"{figure_name(metric)} may lose {drop_value(metric, goal.max_drop)}"]
    if goal.max_recall_drop is not None:
        told.append(f"any class's recall {drop_value('accuracy', goal.max_recall_drop)}")
    if goal.max_size_bytes is not None:
        told.append(f"at most {scaled(goal.max_size_bytes, 'B')}")
    if goal.max_p50_ms is not None:
        told.append(f"at most {goal.max_p50_ms:.3g} ms a call")
    if goal.max_resident_bytes is not None:
        told.append(f"at most {scaled(goal.max_resident_bytes, 'B')} of memory")
    return ", ".join(told)
