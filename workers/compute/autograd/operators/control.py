"""Control flow: If, Loop and Scan over compiled bodies. Trip counts and conditions are read on the host."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from app.errors import RuntimeRefused
from workers.compute.autograd.operators.base import Body, Kernel, Node, Rule, plain, scalar


def _if(node: Node) -> Kernel:
    then_body: Body = node.attributes["then_branch"]
    else_body: Body = node.attributes["else_branch"]

    def run(condition: Tensor, *captured: Tensor | None) -> tuple[Tensor, ...]:
        body = then_body if bool(scalar(condition)) else else_body
        given = (condition, *captured)
        return body((), given[body.captures])

    return run


def _loop(node: Node) -> Kernel:
    body: Body = node.attributes["body"]

    def run(limit: Tensor | None, condition: Tensor | None, *rest: Tensor | None) -> tuple[Tensor, ...]:
        given = (limit, condition, *rest)
        captured, carried = given[body.captures], list(given[2 : body.captures.start])
        trips = None if limit is None else int(scalar(limit))
        keeps, scanned, at = condition is None or bool(scalar(condition)), [], 0
        count = len(carried)
        while keeps and (trips is None or at < trips):
            going, *results = body((torch.tensor(at), torch.tensor(keeps), *carried), captured)
            carried, keeps, at = list(results[:count]), bool(scalar(going)), at + 1
            scanned.append(results[count:])
        if not scanned and body.count > 1 + count:
            unused = _unused(body, (torch.tensor(at), torch.tensor(data=True), *carried), captured)
            return (*carried, *(_none_of(row) for row in unused[1 + count :]))  # type: ignore[arg-type] # as below
        stacked = [torch.stack(parts) for parts in zip(*scanned, strict=True)]
        return (*carried, *stacked)  # type: ignore[arg-type] # states are there: the standard allows no absent one

    return run


def _unused(body: Body, inputs: Sequence[Tensor | None], captured: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Return results of a body that is to run no time: only their shapes and types count.

    A body that reads the first of no rows cannot run; then its results have no axes.
    """
    with torch.no_grad():
        try:
            return body(inputs, captured)
        except RuntimeRefused:
            return tuple(torch.empty(()) for _ in range(body.count))


def _none_of(row: Tensor, axis: int = 0) -> Tensor:
    """Return no rows, stacked along an axis."""
    return row.unsqueeze(axis).narrow(axis, 0, 0)


def _directions(node: Node, name: str, count: int) -> list[int]:
    return node.integers(name) or [0] * count


def _scan(node: Node) -> Kernel:
    body: Body = node.attributes["body"]
    scans = node.integer("num_scan_inputs")
    old = node.opset < 9  # noqa: PLR2004 - opset 8 scanned batches and had lengths as its first input

    def once(states: list[Tensor], inputs: list[Tensor], captured: tuple[Tensor | None, ...]) -> list[Tensor]:
        in_axes = _directions(node, "scan_input_axes", scans)
        in_back = _directions(node, "directions" if old else "scan_input_directions", scans)
        sequences = [
            list(x.unbind(axis))[:: -1 if back else 1] for x, axis, back in zip(inputs, in_axes, in_back, strict=True)
        ]
        count, gathered = len(states), []
        for rows in zip(*sequences, strict=True):
            results = body((*states, *rows), captured)
            states = list(results[:count])
            gathered.append(results[count:])
        axes = _directions(node, "scan_output_axes", body.count - count)
        back = _directions(node, "scan_output_directions", body.count - count)
        if not gathered:
            row = [x.new_zeros(x.sum(axis).shape) for x, axis in zip(inputs, in_axes, strict=True)]
            unused = _unused(body, (*states, *row), captured)[count:]
            return [*states, *(_none_of(part, axis) for part, axis in zip(unused, axes, strict=True))]
        stacked = [
            torch.stack(parts[:: -1 if flip else 1], axis)
            for parts, axis, flip in zip(zip(*gathered, strict=True), axes, back, strict=True)
        ]
        return [*states, *stacked]

    return _batched(once, body, scans) if old else _unbatched(once, body, scans)


Once = Callable[[list[Tensor], list[Tensor], tuple[Tensor | None, ...]], list[Tensor]]


def _unbatched(once: Once, body: Body, scans: int) -> Kernel:
    def run(*given: Tensor) -> tuple[Tensor, ...]:
        own = list(given[: body.captures.start])
        split = len(own) - scans
        return tuple(once(own[:split], own[split:], given[body.captures]))

    return run


def _batched(once: Once, body: Body, scans: int) -> Kernel:
    def run(lengths: Tensor | None, *rest: Tensor) -> tuple[Tensor, ...]:
        given = (lengths, *rest)
        own = list(rest[: body.captures.start - 1])
        split, results = len(own) - scans, []
        for row in range(own[-1].shape[0]):
            length = own[-1].shape[1] if lengths is None else int(lengths[row])
            states, inputs = [x[row] for x in own[:split]], [x[row][:length] for x in own[split:]]
            results.append(once(states, inputs, given[body.captures]))
        return tuple(torch.stack(parts) for parts in zip(*results, strict=True))

    return run


def _sequence_map(node: Node) -> Kernel:
    body: Body = node.attributes["body"]

    def run(*given: Tensor | list[Tensor]) -> tuple[list[Tensor], ...]:
        own, captured = given[: body.captures.start], given[body.captures]
        rows = [
            body([x[at] if isinstance(x, list) else x for x in own], captured)  # type: ignore[arg-type] # bodies capture lists as well
            for at in range(len(own[0]))
        ]
        return tuple([row[at] for row in rows] for at in range(node.declared))

    return run


RULES: dict[str, Rule] = {
    "If": _if,
    "Loop": _loop,
    "OptionalGetElement": plain(lambda x: x),
    "OptionalHasElement": plain(lambda x=None: torch.tensor(x is not None)),
    "Scan": _scan,
    "SequenceMap": _sequence_map,
}
