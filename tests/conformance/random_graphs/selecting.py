"""Nodes that look elements up, write some, sort them or count them."""

import numpy as np

from tests.conformance.random_graphs.draft import BOOL, FLOAT, FLOATS, INT32, INT64, UINT8, Draft, Form, Value

_COMMON = (*FLOATS, INT64, INT32)


def gather(draft: Draft) -> None:
    x = draft.pick((*_COMMON, UINT8, BOOL), (1, 4))
    axis = draft.integer(-x.rank, x.rank - 1)
    size = x.shape[axis]
    low = -size if draft.opset >= 11 else 0
    shape = draft.dims(0, 2)
    index = draft.fresh(draft.choice([INT64, INT32]), shape, low, size - 1)
    draft.add("Gather", x, index, **({"axis": axis} if axis or draft.flag() else {}))


def gather_elements(draft: Draft) -> None:
    draft.since(11)
    x = draft.pick(_COMMON, (1, 4))
    axis = draft.integer(-x.rank, x.rank - 1)
    shape = [draft.integer(1, size) for size in x.shape]
    shape[axis] = draft.integer(1, 4)
    index = draft.weight(draft.choice([INT64, INT32]), tuple(shape), -x.shape[axis], x.shape[axis] - 1)
    draft.add("GatherElements", x, index, axis=axis)


def gather_nd(draft: Draft) -> None:
    draft.since(11)
    x = draft.pick(_COMMON, (1, 4))
    shared = draft.integer(0, min(1, x.rank - 1)) if draft.opset >= 12 else 0
    depth = draft.integer(1, x.rank - shared)
    draft.steady = draft.steady and not shared  # the indices have as many rows as the first batch
    lead = (*x.shape[:shared], *draft.integers(draft.integer(0, 2), 1, 3))
    index = _places(draft, x.shape[shared : shared + depth], lead)
    draft.add("GatherND", x, index, **({"batch_dims": shared} if draft.opset >= 12 else {}))


def _places(draft: Draft, sizes: tuple[int, ...], lead: tuple[int, ...]) -> Value:
    columns = [draft.rng.integers(-size, size, lead) for size in sizes]
    return draft.constant(np.stack(columns, axis=-1))


def scatter_elements(draft: Draft) -> None:
    x = draft.pick((*FLOATS, INT64), (1, 3))
    axis = draft.integer(0, x.rank - 1)
    shape = [draft.integer(1, size) for size in x.shape]
    rng = draft.rng
    # Every place is written once: the order of writes is not defined.
    order = np.apply_along_axis(rng.permutation, axis, np.broadcast_to(_ramp(x.shape, axis), x.shape).copy())
    index = order[tuple(slice(size) for size in shape)]
    updates = draft.fresh(x.kind, tuple(shape))
    if draft.opset < 11:
        draft.add("Scatter", x, draft.constant(index), updates, axis=axis)
        return
    attributes = {}
    if draft.opset >= 16:
        attributes["reduction"] = draft.choice(["none", "add", "mul", *(["max", "min"] if draft.opset >= 18 else [])])
    draft.add("ScatterElements", x, draft.constant(index), updates, axis=axis, **attributes)


def _ramp(shape: tuple[int, ...], axis: int) -> np.ndarray:
    return np.arange(shape[axis]).reshape([-1 if at == axis else 1 for at in range(len(shape))])


def scatter_nd(draft: Draft) -> None:
    draft.since(11)
    x = draft.pick((*FLOATS, INT64), (1, 3))
    depth = draft.integer(1, x.rank)
    every = np.stack(np.unravel_index(draft.rng.permutation(int(np.prod(x.shape[:depth]))), x.shape[:depth]), axis=-1)
    index = every[: draft.integer(1, len(every))]
    updates = draft.fresh(x.kind, (len(index), *x.shape[depth:]))
    attributes = {}
    if draft.opset >= 16:
        attributes["reduction"] = draft.choice(["none", "add", "mul", *(["max", "min"] if draft.opset >= 18 else [])])
    draft.add("ScatterND", x, draft.constant(index), updates, **attributes)


def best(draft: Draft) -> None:
    op_type = draft.choice(["ArgMax", "ArgMin"])
    x = draft.pick((*FLOATS, INT32, UINT8) if draft.opset >= 12 else FLOATS, (1, 4))
    axis = draft.integer(-x.rank if draft.opset >= 11 else 0, x.rank - 1)
    draft.clear_gaps(x.array, axis)
    more = {"select_last_index": draft.integer(0, 1)} if draft.opset >= 12 else {}
    draft.add(op_type, x, axis=axis, keepdims=draft.integer(0, 1), **more)


def top_k(draft: Draft) -> None:
    x = draft.pick((*FLOATS, INT64, INT32) if draft.opset >= 11 else [FLOAT], (1, 4))
    axis = draft.integer(-x.rank, x.rank - 1)
    draft.clear_gaps(x.array, axis)
    count = draft.integer(1, x.shape[axis])
    if draft.opset < 10:
        draft.add("TopK", x, outputs=2, k=count, axis=axis % x.rank)
        return
    more = {"largest": draft.integer(0, 1)} if draft.opset >= 11 else {}
    draft.add("TopK", x, draft.constant([count]), outputs=2, axis=axis, **more)


def cumulate(draft: Draft) -> None:
    draft.since(11)
    x = draft.pick(_COMMON, (1, 4))
    axis = draft.constant(draft.integer(-x.rank, x.rank - 1), draft.choice([INT64, INT32]))
    draft.add("CumSum", x, axis, exclusive=draft.integer(0, 1), reverse=draft.integer(0, 1))


def one_hot(draft: Draft) -> None:
    depth = draft.integer(2, 4)
    index = draft.fresh(draft.choice([INT64, INT32, FLOAT] if draft.opset >= 11 else [INT64]), draft.dims(1, 3), 0, 0)
    if index.kind != FLOAT:
        index = draft.fresh(index.kind, draft.dims(1, 3), -depth, depth)
    values = draft.constant([draft.integer(-2, 0), draft.integer(1, 3)], draft.choice([FLOAT, INT64]))
    draft.add("OneHot", index, draft.constant(depth), values, axis=draft.integer(-index.rank - 1, index.rank))


def nonzero(draft: Draft) -> None:
    x = draft.pick((FLOAT, INT64, INT32, BOOL), (1, 4))
    if x.kind == FLOAT:
        draft.clear_of(x.array)
    draft.add("NonZero", x)


def compress(draft: Draft) -> None:
    x = draft.pick(_COMMON, (1, 4))
    if draft.flag():
        axis = draft.integer(-x.rank if draft.opset >= 11 else 0, x.rank - 1)
        draft.add("Compress", x, draft.weight(BOOL, (x.shape[axis],)), axis=axis)
    else:
        draft.add("Compress", x, draft.weight(BOOL, (draft.integer(1, x.array.size),)))


def unique(draft: Draft) -> None:
    draft.since(11)
    x = draft.pick((FLOAT, INT64), (1, 3))
    if x.kind == FLOAT:
        draft.clear_gaps(x.array.reshape(-1), 0)
    axis = {"axis": draft.integer(-x.rank, x.rank - 1)} if draft.flag() else {}
    draft.add("Unique", x, outputs=draft.integer(1, 4), sorted=draft.integer(0, 1), **axis)


FORMS: tuple[Form, ...] = (
    *(gather, gather, gather_elements, gather_nd, scatter_elements, scatter_nd, best, top_k, cumulate, one_hot),
    *(nonzero, compress, unique),
)
