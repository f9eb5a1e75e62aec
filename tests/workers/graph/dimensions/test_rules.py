"""Operators that the exported and random networks do not hold: what shrinks together, and that it can."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from tests.workers.graph.dimensions import cuts
from tests.workers.graph.networks import Kind, Network
from workers.compute.graph.dimensions import couple
from workers.compute.graph.model import Model

ROWS, LENGTH, WIDTH, HEADS, CLASSES = 2, 5, 6, 3, 2
VENDOR = "com.microsoft"


def sequence(net: Network) -> ir.Value:
    return net.given("x", Kind.FLOAT, ["rows", LENGTH, WIDTH])


def image(net: Network) -> ir.Value:
    return net.given("x", Kind.FLOAT, ["rows", WIDTH, 4, 4])


def vendor(net: Network, name: str, op_type: str, *inputs: ir.Value | None, **attributes: float) -> ir.Value:
    node = ir.node(op_type, list(inputs), attributes, domain=VENDOR, name=name)
    node.outputs[0].name = f"{name}_out"
    net.nodes.append(node)
    return node.outputs[0]


def linear(net: Network, name: str, x: ir.Value, wide: int, leaving: int) -> ir.Value:
    return net.add(name, "MatMul", x, net.weight(f"{name}.w", wide, leaving))


def conv(net: Network, name: str, x: ir.Value, wide: int, leaving: int) -> ir.Value:
    return net.add(name, "Conv", x, net.weight(f"{name}.w", leaving, wide, 1, 1), net.weight(f"{name}.b", leaving))


def of_sequence(net: Network, x: ir.Value, wide: int) -> Model:
    model = net.model(linear(net, "head", x, wide, CLASSES), ["rows", LENGTH, CLASSES])
    model.graph.opset_imports[VENDOR] = 1
    return model


def of_image(net: Network, x: ir.Value, wide: int, side: int = 4) -> Model:
    return net.model(conv(net, "head", x, wide, CLASSES), ["rows", CLASSES, side, side])


def attention_apart() -> Model:
    net = Network(23)
    x = sequence(net)
    parts = [
        net.add(
            f"{part}_turn",
            "Transpose",
            net.add(
                f"{part}_cut", "Reshape", linear(net, part, x, WIDTH, 12), net.numbers(f"{part}_to", 0, 0, HEADS, 4)
            ),
            perm=[0, 2, 1, 3],
        )
        for part in "qkv"
    ]
    mixed = net.add("back", "Transpose", net.add("attention", "Attention", *parts), perm=[0, 2, 1, 3])
    return of_sequence(net, net.add("join", "Reshape", mixed, net.numbers("joined", 0, 0, 12)), 12)


def attention_joined() -> Model:
    net = Network(23)
    x = sequence(net)
    parts = [linear(net, part, x, WIDTH, 12) for part in "qkv"]
    return of_sequence(net, net.add("attention", "Attention", *parts, q_num_heads=HEADS, kv_num_heads=HEADS), 12)


def multi_head() -> Model:
    net = Network(17)
    x = sequence(net)
    parts = [linear(net, part, x, WIDTH, 12) for part in "qkv"]
    found = vendor(net, "attention", "MultiHeadAttention", *parts, net.weight("bias", 36), num_heads=HEADS)
    return of_sequence(net, found, 12)


def packed_attention() -> Model:
    net = Network(17)
    x = linear(net, "in", sequence(net), WIDTH, 8)
    found = vendor(net, "attention", "Attention", x, net.weight("qkv", 8, 36), net.weight("bias", 36), num_heads=HEADS)
    return of_sequence(net, found, 12)


def skip_norm() -> Model:
    net = Network(17)
    x = sequence(net)
    left, right = linear(net, "left", x, WIDTH, 8), linear(net, "right", x, WIDTH, 8)
    found = vendor(
        net, "norm", "SkipLayerNormalization", left, right, net.weight("gamma", 8, around=1), net.weight("beta", 8)
    )
    return of_sequence(net, found, 8)


def layer_norm() -> Model:
    net = Network(17)
    x = linear(net, "in", sequence(net), WIDTH, 8)
    scale, shift = net.weight("gamma", 8, around=1), net.weight("beta", 8)
    return of_sequence(net, net.add("norm", "LayerNormalization", x, scale, shift, axis=-1), 8)


def group_norm(opset: int) -> Model:
    net = Network(opset)
    x = conv(net, "in", image(net), WIDTH, 8)
    scales = 4 if opset < 21 else 8
    norm = net.add(
        "norm", "GroupNormalization", x, net.weight("gamma", scales, around=1), net.weight("beta", scales), num_groups=4
    )
    return of_image(net, norm, 8)


def local_norm() -> Model:
    net = Network(13)
    return of_image(net, net.add("norm", "LRN", conv(net, "in", image(net), WIDTH, 8), size=3), 8)


def unit_length() -> Model:
    net = Network(13)
    return of_image(net, net.add("norm", "LpNormalization", conv(net, "in", image(net), WIDTH, 8), axis=1, p=2), 8)


def resize_to_sizes() -> Model:
    net = Network(13)
    x = conv(net, "in", image(net), WIDTH, 8)
    none = net.constant("none", np.zeros(0, np.float32))
    batch = net.add("batch", "Slice", net.add("shape", "Shape", x), net.numbers("from", 0), net.numbers("to", 2))
    sizes = net.add("sizes", "Concat", batch, net.numbers("side", 8, 8), axis=0)
    return of_image(net, net.add("resize", "Resize", x, none, none, sizes, mode="nearest"), 8, 8)


def equal_split() -> Model:
    net = Network(18)
    x = linear(net, "in", sequence(net), WIDTH, 8)
    node = ir.node("Split", [x], {"axis": -1, "num_outputs": 2}, name="split", num_outputs=2)
    for value, name in zip(node.outputs, ("left", "right"), strict=True):
        value.name = name
    net.nodes.append(node)
    return of_sequence(net, net.add("join", "Concat", *reversed(node.outputs), axis=-1), 8)


def old_slice() -> Model:
    net = Network(9)
    x = linear(net, "in", sequence(net), WIDTH, 8)
    return of_sequence(net, net.add("cut", "Slice", x, axes=[2], starts=[2], ends=[2**31 - 1]), 6)


def narrow_slice() -> Model:
    """Bounds and steps of 32 bits, as exporters from TensorFlow write them."""
    net = Network(13)
    x = linear(net, "in", sequence(net), WIDTH, 8)
    bounds = [net.constant(f"s{at}", np.asarray([number], np.int32)) for at, number in enumerate((2, 8, 2, 1))]
    return of_sequence(net, net.add("cut", "Slice", x, *bounds), 6)


def filled() -> Model:
    """A constant of a size that follows the width."""
    net = Network(13)
    x = linear(net, "in", sequence(net), WIDTH, 8)
    ones = net.add("ones", "Expand", net.constant("one", np.ones((1, 1, 1), np.float32)), net.add("shape", "Shape", x))
    return of_sequence(net, net.add("plus", "Add", x, ones), 8)


def tiled() -> Model:
    net = Network(13)
    x = linear(net, "in", sequence(net), WIDTH, 8)
    once = net.add("tile", "Tile", x, net.numbers("repeats", 1, 2, 1))
    return of_sequence(net, net.add("cut", "Slice", once, *(net.numbers(f"s{at}", at) for at in (0, LENGTH, 1))), 8)


def running_sum() -> Model:
    net = Network(13)
    x = linear(net, "in", sequence(net), WIDTH, 8)
    return of_sequence(net, net.add("sum", "CumSum", x, net.constant("axis", np.asarray(1, np.int64))), 8)


def quantized() -> Model:
    """One scale for the whole tensor, as activations have."""
    net = Network(13)
    x = linear(net, "in", sequence(net), WIDTH, 8)
    scale, zero = net.constant("scale", np.asarray(0.05, np.float32)), net.constant("zero", np.asarray(0, np.int8))
    whole = net.add("quantize", "QuantizeLinear", x, scale, zero)
    return of_sequence(net, net.add("restore", "DequantizeLinear", whole, scale, zero), 8)


CASES: dict[str, tuple[Callable[[], Model], list[str]]] = {
    "attention_apart": (attention_apart, ["heads 3"]),
    "attention_joined": (attention_joined, ["heads 3"]),
    "multi_head": (multi_head, ["heads 3"]),
    "packed_attention": (packed_attention, ["neurons 8", "heads 3"]),
    "skip_norm": (skip_norm, ["neurons 8"]),
    "layer_norm": (layer_norm, ["neurons 8"]),
    "group_norm_18": (lambda: group_norm(18), ["channels 4"]),
    "group_norm_21": (lambda: group_norm(21), ["channels 4"]),
    "local_norm": (local_norm, ["channels 8"]),
    "unit_length": (unit_length, ["channels 8"]),
    "resize_to_sizes": (resize_to_sizes, ["channels 8"]),
    "equal_split": (equal_split, ["neurons 8"]),
    "old_slice": (old_slice, ["neurons 2", "neurons 6"]),
    "narrow_slice": (narrow_slice, ["neurons 2", "neurons 6"]),
    "filled": (filled, ["neurons 8"]),
    "tiled": (tiled, ["neurons 8"]),
    "running_sum": (running_sum, ["neurons 8"]),
    "quantized": (quantized, ["neurons 8"]),
}


@pytest.mark.parametrize("name", CASES)
def test_units_are_found_and_go(name: str) -> None:
    make, expected = CASES[name]
    model = make()
    coupling = couple(model)
    assert sorted(f"{group.kind} {group.units}" for group in coupling.groups) == sorted(expected)
    given = model.graph.inputs[0].shape or ()
    for rows in (ROWS, 1):
        sizes = [size if isinstance(size, int) else rows for size in given]
        feed = {"x": np.random.default_rng(rows).normal(size=sizes).astype(np.float32)}
        for group, units in cuts.half(coupling).items():
            cuts.check(model, coupling, {group: units}, feed)


def frozen(x: Callable[[Network, ir.Value], ir.Value], opset: int = 13) -> dict[tuple[str, int], str]:
    """Return why the eight units of a layer stay, when `x` uses them."""
    net = Network(opset)
    found = x(net, linear(net, "in", sequence(net), WIDTH, 8))
    coupling = couple(net.model(found, ["rows", LENGTH, 8]))
    assert coupling.groups == ()
    return dict(coupling.frozen)


def barrier(net: Network, x: ir.Value) -> ir.Value:
    return linear(net, "head", net.add("odd", "Trilu", x), 8, 8)


def looked_up(net: Network, x: ir.Value) -> ir.Value:
    order = net.numbers("order", *range(7, -1, -1))
    return linear(net, "head", net.add("look", "Gather", x, order, axis=2), 8, 8)


def normalized_to_one(net: Network, x: ir.Value) -> ir.Value:
    return linear(net, "head", net.add("soft", "Softmax", x, axis=-1), 8, 8)


def padded(net: Network, x: ir.Value) -> ir.Value:
    return linear(net, "head", net.add("pad", "Pad", x, net.numbers("pads", 0, 0, 0, 0, 0, 1)), 9, 8)


def counted_with(net: Network, x: ir.Value) -> ir.Value:
    """Divide by the square root of the width, as the graph itself reads it."""
    width = net.add("width", "Gather", net.add("shape", "Shape", x), net.constant("last", np.asarray(2, np.int64)))
    root = net.add("root", "Sqrt", net.add("number", "Cast", width, to=1))
    return linear(net, "head", net.add("scaled", "Div", x, root), 8, 8)


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (barrier, "odd (Trilu)"),
        (looked_up, "look (Gather)"),
        (normalized_to_one, "soft (Softmax)"),
        (padded, "pad (Pad)"),
        (counted_with, "its size is computed with in root (Sqrt)"),
    ],
)
def test_what_must_stay_is_frozen_with_its_reason(use: Callable[[Network, ir.Value], ir.Value], reason: str) -> None:
    assert frozen(use)["in.w", 1] == reason


def test_only_operators_without_a_rule_are_barriers() -> None:
    net = Network(13)
    x = barrier(net, linear(net, "in", sequence(net), WIDTH, 8))
    assert couple(net.model(x, ["rows", LENGTH, 8])).barriers == ("odd (Trilu)",)


def test_branches_are_barriers_for_what_they_capture() -> None:
    net = Network(13)
    x = linear(net, "in", sequence(net), WIDTH, 8)
    bodies = []
    for name in ("Relu", "Neg"):
        inner = ir.node(name, [x], name=f"inner_{name}")
        inner.outputs[0].name = f"inner_{name}_out"
        bodies.append(ir.Graph([], inner.outputs, nodes=[inner], name=name))
    always = net.constant("always", np.asarray(True))
    branches = {"then_branch": bodies[0], "else_branch": bodies[1]}
    node = ir.node("If", [always], branches, name="choice")
    node.outputs[0].name, node.outputs[0].shape = "choice_out", ir.Shape(["rows", LENGTH, 8])
    node.outputs[0].type = ir.TensorType(Kind.FLOAT)
    net.nodes.append(node)
    coupling = couple(net.model(linear(net, "head", node.outputs[0], 8, 8), ["rows", LENGTH, 8]))
    assert coupling.barriers == ("choice (If)",)
    assert coupling.groups == ()


def test_unknown_groups_and_units_and_whole_groups_are_refused() -> None:
    coupling = couple(layer_norm())
    (group,) = coupling.groups
    with pytest.raises(KeyError):
        coupling.gone({"nothing": [0]})
    with pytest.raises(KeyError):
        coupling.gone({group.name: [8]})
    with pytest.raises(ValueError, match="at least one must stay"):
        coupling.gone({group.name: range(8)})
