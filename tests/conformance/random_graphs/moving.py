"""Nodes that move, cut, join and repeat elements, with shapes that are constant or computed in the graph."""

import numpy as np
from onnx import numpy_helper

from tests.conformance.random_graphs.draft import (
    BOOL,
    FLOAT,
    FLOATS,
    INT32,
    INT64,
    WHOLE,
    Draft,
    Form,
    Value,
    axes_given,
)

_ANY = (*FLOATS, *WHOLE, BOOL)
_COMMON = (*FLOATS, INT64, INT32)


def _factors(draft: Draft, size: int, count: int) -> list[int]:
    """Split a number into `count` factors."""
    found = []
    for _ in range(count - 1):
        found.append(draft.choice([factor for factor in range(1, size + 1) if size % factor == 0]))
        size //= found[-1]
    return [*found, size]


def reshape(draft: Draft) -> None:
    x = draft.pick(_ANY)
    target = _factors(draft, x.array.size, draft.integer(1, 5))
    if draft.flag():
        target[draft.integer(0, len(target) - 1)] = -1
    elif x.rank and target[0] == x.shape[0]:
        target[0] = 0
    if draft.flag() and -1 not in target and 0 not in target and draft.opset >= 14:
        draft.add("Reshape", x, draft.constant(target), allowzero=1)
        return
    draft.add("Reshape", x, draft.constant(target))


def keeps_first(draft: Draft) -> None:
    """Add what exporters write to merge all axes but the first: Shape, Gather, Concat, Reshape."""
    x = draft.pick(_COMMON, (1, 5))
    axis = draft.integer(0, x.rank - 1)
    (shape,) = draft.add("Shape", x)
    (first,) = draft.add("Gather", shape, draft.constant([axis] if draft.flag() else axis), axis=0)
    if first.rank == 0:
        (first,) = axes_given(draft, "Unsqueeze", first, [0], since=13)
    rest = draft.constant([-1])
    order = [first, rest] if draft.flag() else [rest, first]
    (target,) = draft.add("Concat", *order, axis=0)
    draft.add("Reshape", x, target)


def shape_arithmetic(draft: Draft) -> None:
    """Calculate with a size, and build a tensor by it."""
    x = draft.pick(_ANY, (1, 5))
    (shape,) = draft.add("Shape", x)
    begin, end = draft.constant([0]), draft.constant([draft.integer(1, x.rank)])
    if draft.opset < 10:
        (part,) = draft.add("Slice", shape, starts=[0], ends=[draft.integer(1, x.rank)])
    else:
        (part,) = draft.add("Slice", shape, begin, end, draft.constant([0]))
    (size,) = draft.add(draft.choice(["Add", "Mul"]), part, draft.constant([draft.integer(1, 2)]))
    choice = draft.integer(0, 2)
    if choice == 0:
        value = np.array([draft.integer(-2, 2)], draft.choice([FLOAT, INT64]))
        draft.add("ConstantOfShape", size, **({"value": numpy_helper.from_array(value)} if draft.flag() else {}))
    elif choice == 1:
        (target,) = draft.add("Concat", size, draft.constant([1]), axis=0)
        draft.add("Expand", draft.fresh(FLOAT, (1,)), target)
    else:
        draft.since(11)
        (count,) = draft.add("ReduceProd", part, keepdims=0)
        draft.add("Range", draft.constant(draft.integer(-2, 0)), count, draft.constant(draft.integer(1, 3)))


def sizes(draft: Draft) -> None:
    x = draft.pick(_ANY)
    if draft.opset >= 15 and draft.flag():
        start, end = draft.integers(2, -x.rank - 1, x.rank + 1)
        draft.add("Shape", x, start=start, **({"end": end} if draft.flag() else {}))
    else:
        draft.add(draft.choice(["Shape", "Size"]), x)


def transpose(draft: Draft) -> None:
    x = draft.pick(_ANY, (1, 5))
    order = draft.permutation(x.rank)
    draft.add("Transpose", x, **({"perm": order} if draft.flag() else {}))


def flatten(draft: Draft) -> None:
    x = draft.pick(_COMMON, (1, 5))
    draft.add("Flatten", x, axis=draft.integer(-x.rank if draft.opset >= 11 else 0, x.rank))


def squeeze(draft: Draft) -> None:
    x = draft.pick(_ANY, (1, 5), lambda value: 1 in value.shape)
    places = [axis for axis, size in enumerate(x.shape) if size == 1]
    if draft.integer(0, 3) == 0:
        draft.add("Squeeze", x)
        return
    axis = draft.choice(places)
    axes_given(draft, "Squeeze", x, [axis - x.rank if draft.flag() and draft.opset >= 11 else axis], since=13)


def unsqueeze(draft: Draft) -> None:
    x = draft.pick(_ANY, (0, 3))
    count = draft.integer(1, 2)
    axes = draft.permutation(x.rank + count)[:count]
    if draft.opset >= 11 and draft.flag():
        axes = [axis - x.rank - count for axis in axes]
    axes_given(draft, "Unsqueeze", x, axes, since=13)


def expand(draft: Draft) -> None:
    x = draft.pick(_ANY, (0, 4))
    target = [size if draft.flag() else draft.choice([1, size, 2 if size == 1 else size]) for size in x.shape]
    draft.add("Expand", x, draft.constant([*draft.integers(draft.integer(0, 1), 1, 3), *target]))


def concat(draft: Draft) -> None:
    x = draft.pick(_ANY, (1, 5))
    axis = draft.integer(0, x.rank - 1)

    def alike(value: Value) -> bool:
        return (
            value.kind == x.kind
            and value.rank == x.rank
            and all(
                mine == other for at, (mine, other) in enumerate(zip(x.shape, value.shape, strict=True)) if at != axis
            )
        )

    others = [value for value in draft.values if alike(value)]
    parts = [x, *(draft.choice(others) for _ in range(draft.integer(0, 2)) if others)]
    if draft.flag():
        parts.append(
            draft.fresh(x.kind, tuple(draft.integer(1, 2) if at == axis else n for at, n in enumerate(x.shape)))
        )
    draft.add("Concat", *parts, axis=axis - x.rank if draft.opset >= 11 and draft.flag() else axis)


def split(draft: Draft) -> None:
    x = draft.pick(_COMMON, (1, 5), lambda value: max(value.shape, default=0) > 1)
    axis = draft.choice([at for at, size in enumerate(x.shape) if size > 1])
    first = draft.integer(0 if draft.flag() else 1, x.shape[axis])
    parts = [first, x.shape[axis] - first]
    axis -= x.rank if draft.opset >= 11 and draft.flag() else 0
    if draft.flag():
        count = draft.choice(
            [size for size in range(1, x.shape[axis] + 1) if draft.opset >= 18 or x.shape[axis] % size == 0]
        )
        draft.add("Split", x, outputs=count, axis=axis, **({"num_outputs": count} if draft.opset >= 18 else {}))
    elif draft.opset < 13:
        draft.add("Split", x, outputs=2, axis=axis, split=parts)
    else:
        draft.add("Split", x, draft.constant(parts), outputs=2, axis=axis)


def slices(draft: Draft) -> None:
    x = draft.pick(_ANY, (1, 5))
    axes = draft.permutation(x.rank)[: draft.integer(1, x.rank)]
    starts, ends = (draft.integers(len(axes), -5, 5) for _ in range(2))
    if draft.opset < 10:
        draft.add(
            "Slice",
            x,
            starts=starts,
            ends=ends,
            **({"axes": sorted(axes)} if draft.flag() or len(axes) < x.rank else {}),
        )
        return
    steps = [draft.choice([1, 2, -1, -2, 3]) for _ in axes]
    ends = [draft.choice([end, 2**63 - 1 if step > 0 else -(2**63)]) for end, step in zip(ends, steps, strict=True)]
    kind = draft.choice([INT64, INT32])
    if kind == INT32:
        ends = [int(np.clip(end, -(2**31), 2**31 - 1)) for end in ends]
    turned = [axis - x.rank if draft.flag() else axis for axis in axes]
    draft.add("Slice", x, *(draft.constant(part, kind) for part in (starts, ends, turned, steps)))


def tile(draft: Draft) -> None:
    x = draft.pick(_ANY, (1, 4))
    draft.add("Tile", x, draft.constant(draft.integers(x.rank, 1, 2)))


def pad(draft: Draft) -> None:
    mode = draft.choice(["constant", "constant", "reflect", "edge", "wrap"])
    draft.since(19 if mode == "wrap" else 9)
    x = draft.pick(FLOATS if draft.opset < 13 else _COMMON, (1, 4))
    low = -1 if mode == "constant" else 0
    high = [min(2, size - 1) if mode in {"reflect", "wrap"} else 2 for size in x.shape]
    widths = [draft.integer(low, most) for most in high * 2]
    if draft.opset < 11:
        draft.add("Pad", x, mode=mode, pads=widths, **({"value": 0.5} if draft.flag() else {}))
        return
    value = draft.constant(draft.integer(-2, 2), x.kind) if mode == "constant" and draft.flag() else None
    if draft.opset >= 18 and draft.flag():
        axes = sorted(draft.permutation(x.rank)[: draft.integer(1, x.rank)])
        chosen = [widths[axis] for axis in axes] + [widths[axis + x.rank] for axis in axes]
        draft.add("Pad", x, draft.constant(chosen), value, draft.constant(axes), mode=mode)
        return
    draft.add("Pad", x, draft.constant(widths), *([value] if value else []), mode=mode)


def depth_and_space(draft: Draft) -> None:
    if draft.flag():
        x = draft.pick(FLOATS, (4, 4), lambda value: value.shape[1] % 4 == 0)
        mode = {"mode": draft.choice(["DCR", "CRD"])} if draft.opset >= 11 else {}
        draft.add("DepthToSpace", x, blocksize=2, **mode)
    else:
        x = draft.pick(FLOATS, (4, 4), lambda value: value.shape[2] % 2 == value.shape[3] % 2 == 0)
        draft.add("SpaceToDepth", x, blocksize=2)


def triangle(draft: Draft) -> None:
    draft.since(14)
    x = draft.pick((*_COMMON, BOOL), (2, 4))
    shift = draft.constant(draft.integer(-2, 2)) if draft.flag() else None
    draft.add("Trilu", x, *([shift] if shift else []), upper=draft.integer(0, 1))


def reverse(draft: Draft) -> None:
    draft.since(10)
    x = draft.pick((FLOAT, INT64), (2, 4))
    time = draft.integer(0, 1)
    lengths = [draft.integer(1, x.shape[time]) for _ in range(x.shape[1 - time])]
    draft.add("ReverseSequence", x, draft.constant(lengths), time_axis=time, batch_axis=1 - time)


def identity_matrix(draft: Draft) -> None:
    x = draft.pick((FLOAT, INT64), (2, 2))
    draft.add("EyeLike", x, k=draft.integer(-1, 1))


def crop_or_pad(draft: Draft) -> None:
    draft.since(18)
    x = draft.pick(_COMMON, (1, 4))
    axes = draft.permutation(x.rank)[: draft.integer(1, x.rank)]
    draft.add("CenterCropPad", x, draft.constant(draft.integers(len(axes), 1, 5)), axes=axes)


FORMS: tuple[Form, ...] = (
    *(reshape, keeps_first, shape_arithmetic, sizes, transpose, flatten, squeeze, unsqueeze, expand, concat, concat),
    *(split, slices, slices, tile, pad, depth_and_space, triangle, reverse, identity_matrix, crop_or_pad),
)
