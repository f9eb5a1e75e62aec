"""Nodes with a body, and the recurrent layers, which loop inside."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.conformance.random_graphs import elementwise
from tests.conformance.random_graphs.draft import (
    BOOL,
    FLOAT,
    INT32,
    Array,
    Draft,
    Form,
    Unfit,
    Value,
    declared,
    outputs_of,
    tensors,
)

_BODY_FORMS: tuple[Form, ...] = (elementwise.smooth, elementwise.arithmetic, elementwise.several, elementwise.where)


def _body(draft: Draft, outer: list[Value], own: list[Value], prefix: str) -> Draft:
    """Grow a body that reads its own inputs and values of the graph around it."""
    body = replace(draft, nodes=[], weights=dict(draft.weights), inputs={}, values=[*outer, *own], prefix=prefix)
    for _ in range(draft.integer(1, 3)):
        try:
            draft.choice(_BODY_FORMS)(body)
        except Unfit:
            continue
    draft.steady = draft.steady and body.steady
    return body


def _graph(draft: Draft, body: Draft, inputs: list[onnx.ValueInfoProto], outputs: list[str]) -> onnx.GraphProto:
    own = {name: array for name, array in body.weights.items() if name not in draft.weights}
    return helper.make_graph(body.nodes, body.prefix, inputs, outputs_of(outputs), tensors(own))


def _scope(draft: Draft) -> list[Value]:
    return [value for value in draft.values if value.kind == FLOAT and value.array.size][-4:]


def branch(draft: Draft) -> None:
    condition = draft.fresh(BOOL, ())
    outer = _scope(draft) or [draft.pick([FLOAT])]
    graphs = []
    for side in ("t", "e"):
        body = _body(draft, outer, [], f"{side}{len(draft.nodes)}_")
        made = [value for value in body.values if value.name.startswith(body.prefix)] or outer
        result = body.choice([value for value in made if value.kind == FLOAT] or outer)
        name = f"{body.prefix}out"
        body.nodes.append(helper.make_node("Identity", [result.name], [name]))
        graphs.append(_graph(draft, body, [], [name]))
    draft.add("If", condition, reads=outer, then_branch=graphs[0], else_branch=graphs[1])


def _next(body: Draft, shape: tuple[int, ...], name: str) -> Value:
    """Choose what a body yields of a shape, kept small so that no loop runs away."""
    found = [v for v in body.values if v.kind == FLOAT and v.shape == shape and v.name.startswith(body.prefix)]
    result = body.choice(found[::-1])
    body.nodes.append(helper.make_node("Tanh", [result.name], [name]))
    return Value(name, np.tanh(result.array))


def loop(draft: Draft) -> None:
    draft.since(11)
    state = draft.pick([FLOAT], (1, 3))
    outer, prefix = _scope(draft), f"l{len(draft.nodes)}_"
    held = Value(f"{prefix}state", state.array)
    body = _body(draft, outer, [held], prefix)
    _next(body, state.shape, f"{prefix}next")
    going = f"{prefix}going"
    body.nodes.append(helper.make_node("Identity", [f"{prefix}cond"], [going]))
    inputs = [
        helper.make_tensor_value_info(f"{prefix}at", TensorProto.INT64, []),
        helper.make_tensor_value_info(f"{prefix}cond", TensorProto.BOOL, []),
        *declared({held.name: held.array}),
    ]
    outputs = [going, f"{prefix}next"]
    trips, condition = draft.constant(draft.integer(0, 3)), draft.constant(np.array(1), BOOL)
    # Of no iteration ONNX Runtime gives the shape that it finds in the body, and other axes where it finds none.
    scanned = draft.flag() and bool(trips.array)
    if scanned:
        body.nodes.append(helper.make_node("Neg", [f"{prefix}next"], [f"{prefix}each"]))
        outputs.append(f"{prefix}each")
    graph = _graph(draft, body, inputs, outputs)
    draft.add("Loop", trips, condition if draft.flag() else None, state, reads=outer, outputs=1 + scanned, body=graph)


def scan(draft: Draft) -> None:
    draft.since(9)
    rows = draft.pick([FLOAT], (2, 3))
    axis = draft.integer(0, rows.rank - 1)
    prefix = f"s{len(draft.nodes)}_"
    row = Value(f"{prefix}row", np.take(rows.array, 0, axis))
    state = draft.fresh(FLOAT, row.shape)
    held, outer = Value(f"{prefix}state", state.array), _scope(draft)
    body = _body(draft, outer, [held, row], prefix)
    added = f"{prefix}sum"
    body.nodes.append(helper.make_node("Add", [held.name, row.name], [added]))
    body.values.append(Value(added, held.array + row.array))
    _next(body, row.shape, f"{prefix}next")
    body.nodes.append(helper.make_node("Neg", [f"{prefix}next"], [f"{prefix}each"]))
    graph = _graph(
        draft, body, declared({held.name: held.array, row.name: row.array}), [f"{prefix}next", f"{prefix}each"]
    )
    attributes: dict[str, Any] = {"scan_input_axes": [axis]}
    if draft.flag():
        attributes["scan_input_directions"] = [1]
    if draft.flag():
        attributes |= {
            "scan_output_axes": [draft.integer(0, row.rank)],
            "scan_output_directions": [draft.integer(0, 1)],
        }
    draft.add("Scan", state, rows, reads=outer, outputs=2, body=graph, num_scan_inputs=1, **attributes)


_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ACTIVATIONS = {"LSTM": ["HardSigmoid", "Tanh", "Relu"], "GRU": ["Tanh", "Softsign"], "RNN": ["Relu"]}


def recurrent(draft: Draft) -> None:
    op_type = draft.choice(sorted(_GATES))
    x = draft.pick([FLOAT], (3, 3))
    hidden, direction = draft.integer(1, 3), draft.choice(["forward", "reverse", "bidirectional"])
    count, gates = 1 + (direction == "bidirectional"), _GATES[op_type]
    steps, rows, width = x.shape
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    inputs: list[Value | None] = [x, draft.weight(FLOAT, (count, gates * hidden, width), -1, 1)]
    inputs.append(draft.weight(FLOAT, (count, gates * hidden, hidden), -1, 1))
    inputs.append(draft.weight(FLOAT, (count, 2 * gates * hidden)) if draft.flag() else None)
    inputs.append(_lengths(draft, steps, rows) if draft.flag() else None)
    inputs.append(draft.fresh(FLOAT, (count, rows, hidden)) if draft.flag() else None)
    if op_type == "LSTM":
        inputs.append(draft.fresh(FLOAT, (count, rows, hidden)) if draft.flag() else None)
        inputs.append(draft.weight(FLOAT, (count, 3 * hidden)) if draft.flag() else None)
        attributes["input_forget"] = int(draft.integer(0, 4) == 0)
    if op_type == "GRU":
        attributes["linear_before_reset"] = draft.integer(0, 1)
    if draft.integer(0, 3) == 0:
        attributes["clip"] = 0.7
    if draft.integer(0, 3) == 0:
        attributes["activations"] = _ACTIVATIONS[op_type] * count
    while inputs[-1] is None:
        inputs.pop()
    draft.add(op_type, *inputs, outputs=draft.integer(1, 3 if op_type == "LSTM" else 2), **attributes)


def _lengths(draft: Draft, steps: int, rows: int) -> Value:
    array: Array = np.array([draft.integer(1, steps) for _ in range(rows)])
    return draft.constant(array, INT32)


FORMS: tuple[Form, ...] = (branch, loop, scan, recurrent, recurrent)
