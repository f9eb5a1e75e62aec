"""Rows of single nodes that no kernel must trust: refused by the check, or admitted and then survived by a job."""

from collections.abc import Callable

import numpy as np
from onnx import helper

from tests.hostile.kernels import LOWEST, MOST, around, floats, graph, ints
from tests.hostile.rows import Row, refused

PICTURE = ("batch", 3, 8, 8)
KERNEL = floats(2, 3, 3, 3)
REFUSED = ("runtime-error", "model-malformed", "model-unsupported")
TOO_MUCH = ("model-too-complex", "resource-limit-exceeded")

Build = Callable[[], bytes]


def conv(**attributes: object) -> Build:
    return lambda: around("Conv", ["h", "k"], {"k": KERNEL}, shape=PICTURE, rank=4, **attributes)


def pool(op: str = "MaxPool", **attributes: object) -> Build:
    return lambda: around(op, ["h"], shape=PICTURE, rank=4, **attributes)


def on_rows(op: str, constants: dict[str, object] | None = None, **attributes: object) -> Build:
    """The node reads h and the constants, in order."""
    return lambda: around(op, ["h", *(constants or {})], constants, **attributes)


def sums(op: str, first: object, second: object, **attributes: object) -> Build:
    """A node on two constants whose result is added to h, so that opening the file computes it."""
    nodes = [
        helper.make_node(op, ["a", "b"], ["q"], **attributes),
        helper.make_node("Cast", ["q"], ["f"], to=1),
        helper.make_node("Add", ["h", "f"], ["y"]),
    ]
    return lambda: graph(nodes, {"a": first, "b": second})


def lifted(op: str, *inputs: str, constants: dict[str, object], **attributes: object) -> Build:
    """A node on h with one more axis in front, for sequences; its answer is summed to two axes."""
    nodes = [
        helper.make_node("Unsqueeze", ["h", "front"], ["u"]),
        helper.make_node(op, ["u", *inputs], ["o"], **attributes),
        helper.make_node("ReduceSum", ["o", "front"], ["y"], keepdims=0),
    ]
    return lambda: graph(nodes, {**constants, "front": ints(0)})


def trees(**changes: object) -> Build:
    whole: dict[str, object] = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.0, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0],
        "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [1.0, 2.0], "n_targets": 1,
    }  # fmt: skip
    return lambda: around("TreeEnsembleRegressor", ["h"], domain="ai.onnx.ml", **{**whole, **changes})


def vectors(**changes: object) -> Build:
    whole: dict[str, object] = {
        "coefficients": [1.0, 2.0], "kernel_params": [0.1, 0.0, 3.0], "kernel_type": "LINEAR", "n_supports": 2,
        "rho": [0.0], "support_vectors": [1.0] * 8,
    }  # fmt: skip
    return lambda: around("SVMRegressor", ["h"], domain="ai.onnx.ml", **{**whole, **changes})


def doubling(times: int) -> bytes:
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(times)]
    return graph([*nodes, helper.make_node("ReduceMean", [f"c{times}"], ["y"])], {"c0": floats(1024)})


def products(side: int, times: int) -> bytes:
    nodes = [helper.make_node("Expand", ["one", "shape"], ["e0"])]
    nodes += [helper.make_node("MatMul", [f"e{i}", "e0"], [f"e{i + 1}"]) for i in range(times)]
    nodes += [helper.make_node("ReduceMean", [f"e{times}"], ["y"], keepdims=1)]
    return graph(nodes, {"one": floats(1, 1), "shape": ints(side, side)})


def filled(size: int) -> bytes:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["e"]),
        helper.make_node("ReduceMean", ["e"], ["y"], keepdims=1),
    ]
    return graph(nodes, {"s": ints(size, 1)})


ATTENTION = {"aw": floats(4, 12), "ab": floats(12)}
RECURRENT = {"lw": floats(1, 16, 4), "lr": floats(1, 16, 4)}
VENDOR = {"domain": "com.microsoft"}

CHECKED: dict[str, tuple[Build, tuple[str, ...]]] = {
    "lowest int64 by -1": (sums("Div", ints(LOWEST), ints(-1)), ("runtime-crashed",)),
    "lowest int32 by -1": (
        sums("Div", np.array([-(2**31)], np.int32), np.array([-1], np.int32)),
        ("runtime-crashed",),
    ),
    "division by zero": (sums("Div", ints(5), ints(0)), REFUSED),
    "remainder by zero": (sums("Mod", ints(5), ints(0)), REFUSED),
    "stride 0": (conv(strides=[0, 0]), REFUSED),
    "stride below 0": (conv(strides=[-1, -1]), REFUSED),
    "pads below 0": (conv(pads=[-100] * 4), REFUSED),
    "dilation 0": (conv(dilations=[0, 0]), REFUSED),
    "kernel of 0": (conv(kernel_shape=[0, 0]), REFUSED),
    "kernel of one axis": (conv(kernel_shape=[3]), REFUSED),
    "a thousand strides": (conv(strides=[1] * 1000), REFUSED),
    "unknown padding": (conv(auto_pad="EVIL"), REFUSED),
    "window stride 0": (pool(kernel_shape=[2, 2], strides=[0, 0]), REFUSED),
    "window of pads": (pool(kernel_shape=[2, 2], pads=[100] * 4), REFUSED),
    "window of 0": (pool(kernel_shape=[0, 0]), REFUSED),
    "norm size 0": (pool("LRN", size=0), REFUSED),
    "norm size below 0": (pool("LRN", size=-3), REFUSED),
    "blocks of 0": (pool("DepthToSpace", blocksize=0), REFUSED),
    "blocks below 0": (pool("SpaceToDepth", blocksize=-2), REFUSED),
    "resized below 0": (
        lambda: around("Resize", ["h", "", "s"], {"s": np.array([1, 1, -1, -1], np.float32)}, shape=PICTURE, rank=4),
        REFUSED,
    ),
    "resized a billion times": (
        lambda: around("Resize", ["h", "", "s"], {"s": np.array([1, 1, 1e9, 1e9], np.float32)}, shape=PICTURE, rank=4),
        TOO_MUCH,
    ),
    "resized by NaN": (
        lambda: around("Resize", ["h", "", "s"], {"s": np.array([1, 1, np.nan, 2], np.float32)}, shape=PICTURE, rank=4),
        ("model-nonfinite",),
    ),
    "padded to 2^40": (on_rows("Pad", {"p": ints(0, 0, 2**40, 2**40)}), (*TOO_MUCH, *REFUSED)),
    "tiled to 2^40": (on_rows("Tile", {"p": ints(2**40, 2**40)}), TOO_MUCH),
    "expanded to 2^31": (on_rows("Expand", {"p": ints(2**31, 1, 4)}, rank=3), TOO_MUCH),
    "shape of two unknowns": (on_rows("Reshape", {"p": ints(-1, -1)}), REFUSED),
    "shape below 0": (on_rows("Reshape", {"p": ints(-7, 4)}), REFUSED),
    "axis 999": (on_rows("Softmax", axis=999), REFUSED),
    "axis -999": (on_rows("Flatten", axis=-999), REFUSED),
    "squeezed axis 99": (on_rows("Squeeze", {"a": ints(99)}), REFUSED),
    "axes twice": (on_rows("Transpose", perm=[0, 0]), REFUSED),
    "axes far away": (on_rows("Transpose", perm=[5, 9]), REFUSED),
    "step 0": (
        on_rows("Slice", {"s": ints(0), "e": ints(4), "a": ints(1), "t": ints(0)}),
        REFUSED,
    ),
    "cast to nothing": (on_rows("Cast", to=0), REFUSED),
    "cast to 999": (on_rows("Cast", to=999), REFUSED),
    "400 million filled": (lambda: filled(400_000_000), TOO_MUCH),
    "filled below 0": (lambda: filled(-5), REFUSED),
    "doubled 40 times": (lambda: doubling(40), TOO_MUCH),
    "doubled 20 times": (lambda: doubling(20), TOO_MUCH),
    "products of constants": (lambda: products(16_384, 4), TOO_MUCH),
    "many products of constants": (lambda: products(4096, 50), TOO_MUCH),
    "equation of 5,000 letters": (on_rows("Einsum", equation="i" * 5000 + "->"), REFUSED),
    "tree in a circle": (trees(nodes_truenodeids=[0, 0, 0], nodes_falsenodeids=[0, 0, 0]), REFUSED),
    "tree to nowhere": (trees(nodes_truenodeids=[2**40, 0, 0]), REFUSED),
    "tree of feature 2^40": (trees(nodes_featureids=[2**40, 0, 0]), REFUSED),
    "tree too short": (trees(nodes_values=[0.0]), REFUSED),
    "tree of unknown mode": (trees(nodes_modes=["EVIL", "LEAF", "LEAF"]), REFUSED),
    "support vectors that are not there": (vectors(n_supports=1000), REFUSED),
    "support vectors cut short": (vectors(support_vectors=[1.0]), REFUSED),
    "heads of 0": (lifted("Attention", "aw", "ab", constants=ATTENTION, num_heads=0, **VENDOR), REFUSED),
    "2^31 heads": (lifted("Attention", "aw", "ab", constants=ATTENTION, num_heads=2**31, **VENDOR), REFUSED),
    "63 bits a weight": (
        on_rows("MatMulNBits", {"b": np.zeros((4, 1, 16), np.uint8), "s": floats(4)}, K=4, N=4, bits=63, block_size=0,
                **VENDOR),
        REFUSED,
    ),
    "unknown locale": (
        lambda: graph([
            helper.make_node("Cast", ["x"], ["t"], to=8), helper.make_node("Reshape", ["t", "r"], ["f"]),
            helper.make_node("StringNormalizer", ["f"], ["g"], locale="xx_EVIL", case_change_action="LOWER"),
            helper.make_node("Identity", ["h"], ["y"]),
        ], {"r": ints(-1)}),
        REFUSED,
    ),
    "pattern of 5,000 groups": (
        lambda: graph([
            helper.make_node("Cast", ["x"], ["t"], to=8),
            helper.make_node("RegexFullMatch", ["t"], ["g"], pattern="(a|a|aa)*$b" + "(" * 5000),
            helper.make_node("Identity", ["h"], ["y"]),
        ], opset=20),
        REFUSED,
    ),
}  # fmt: skip

# Admitted, since what is wrong shows only when rows come: a job on them fails by name, or bears it.
RUN: dict[str, Build] = {
    "index past the end": on_rows("Gather", {"i": ints(MOST)}, axis=1),
    "index before the start": on_rows("Gather", {"i": ints(LOWEST)}, axis=1),
    "scattered far away": on_rows("ScatterND", {"i": np.array([[2**40, 0]]), "u": floats(1)}),
    "window of 2^62": pool(kernel_shape=[2**62, 2**62]),
    "pads of 2^40": conv(pads=[2**40] * 4),
    "groups of 0": conv(group=0),
    "output of 2^40": lambda: around(
        "ConvTranspose", ["h", "k"], {"k": floats(3, 2, 3, 3)}, shape=PICTURE, rank=4, output_padding=[2**40] * 2
    ),
    "lengths past the end": lifted(
        "LSTM", "lw", "lr", "", "sl", constants={**RECURRENT, "sl": np.array([2**30], np.int32)}, hidden_size=4
    ),
    "random numbers without end": lambda: graph(
        [helper.make_node("Multinomial", ["h"], ["m"], sample_size=2**31 - 1),
         helper.make_node("Cast", ["m"], ["y"], to=1)]
    ),
    "sequence past the end": lambda: graph(
        [helper.make_node("SplitToSequence", ["h"], ["s"], axis=0, keepdims=1),
         helper.make_node("SequenceAt", ["s", "p"], ["y"])], {"p": np.array(2**40)}
    ),
    "axes six times": lambda: graph(
        [helper.make_node("Einsum", ["h"] * 6, ["e"], equation="ab,cd,ef,gh,ij,kl->abcdefghijkl"),
         helper.make_node("Reshape", ["e", "r"], ["y"])], {"r": ints(-1, 1)}
    ),
}  # fmt: skip


def rows() -> list[Row]:
    """Return the rows that a check refuses."""
    return [refused(f"node, {name}", build, *problems) for name, (build, problems) in CHECKED.items()]
