"""Sums, means and extremes along axes."""

from collections.abc import Sequence

from workers.compute.graph.dimensions.ledger import Labels
from workers.compute.graph.dimensions.site import Rule, Site

_REDUCTIONS = tuple(
    f"Reduce{name}" for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)


def _reduce(site: Site) -> Sequence[Labels | None]:
    """Note what is reduced: a sum over fewer units is not that over zeros once a function of zero is not zero."""
    data = site.input(0)
    axes = site.listed("axes", 1)
    if data is None or (axes is None and site.given(1) is not None):
        return site.barrier()
    if not axes:
        axes = [] if site.integer("noop_with_empty_axes", 0) else list(range(len(data)))
    gone = {axis % len(data) for axis in axes}
    for axis in gone:
        site.ledger.normalize(data[axis], site.title)
    return [_without(data, gone, keep=bool(site.integer("keepdims", 1)))]


def _pick(site: Site) -> Sequence[Labels | None]:
    """Return the place of an extreme: places are counted, so none may go."""
    data = site.input(0)
    if data is None:
        return site.barrier()
    axis = site.integer("axis", 0) % len(data)
    site.freeze(data[axis])
    return [_without(data, {axis}, keep=bool(site.integer("keepdims", 1)))]


def _without(data: Labels, gone: set[int], *, keep: bool) -> Labels:
    if keep:
        return tuple(None if axis in gone else labels for axis, labels in enumerate(data))
    return tuple(labels for axis, labels in enumerate(data) if axis not in gone)


def _running(site: Site) -> Sequence[Labels | None]:
    """Keep all axes but the one along which sums run."""
    data, axis = site.input(0), site.constant(1)
    if data is None or axis is None:
        return site.barrier()
    place = int(axis.reshape(-1)[0]) % len(data)
    site.freeze(data[place])
    return [tuple(None if at == place else labels for at, labels in enumerate(data))]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), _pick),
    "CumSum": _running,
}
