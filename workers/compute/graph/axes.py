"""How a free axis is written: ONNX leaves it out or names it, some exporters write -1 or `?`."""

Axis = int | str | None


def plain(axis: Axis) -> Axis:
    """Return a fixed size, the name of a free axis, or None for one without a name.

    `?` is no name: Paddle writes it for every free axis, which would make height and width one size.
    """
    if isinstance(axis, str):
        return axis if axis.strip("?") else None
    return axis if axis is not None and axis >= 0 else None
