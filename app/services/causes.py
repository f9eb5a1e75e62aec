"""A failed guard's causes as rows of tables, text already."""

from app.contracts.causes import GuardCauses

DROP_HEADER = ["what", "before", "after", "change", "rows"]
ROW_HEADER = ["row", "label", "original", "result"]
LAYER_HEADER = [
    "tensor put back",
    "operator",
    "relative error",
    "score",
    "gain",
    "bytes then",
    "now",
    "meets the guard",
]


def drop_rows(causes: GuardCauses) -> list[list[str]]:
    """Return the metric step by step, and the recall of the classes that lost most."""
    steps = [
        [f"{causes.metric} in step {step.index + 1}, {step.technique}", *_figures(step.before, step.after), ""]
        for step in causes.steps
    ]
    return steps + [
        [f"recall of {lost.name}", *_figures(lost.before, lost.after), f"{lost.samples:,}"] for lost in causes.classes
    ]


def turned_rows(causes: GuardCauses) -> list[list[str]]:
    """Return validation rows that turned wrong."""
    return [[str(turned.row), turned.label or "", turned.before, turned.after] for turned in causes.samples]


def layer_rows(causes: GuardCauses) -> list[list[str]]:
    """Return what putting back each tensor alone would do, the most helpful first."""
    return [
        [
            layer.tensor,
            layer.operator,
            f"{layer.relative_error:.3f}",
            f"{layer.score:.4f}",
            f"{layer.gain:+.4f}",
            f"{layer.dense_bytes:,}",
            f"{layer.packed_bytes:,}",
            "yes" if layer.meets else "no",
        ]
        for layer in sorted(causes.layers, key=lambda layer: -layer.gain)
    ]


def _figures(before: float, after: float) -> list[str]:
    return [f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"]
