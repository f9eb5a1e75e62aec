"""MACs of matrix products, convolutions and recurrent layers, floating and quantised."""

import math
from collections.abc import Mapping
from functools import partial

from workers.compute.graph.macs.operands import Operands, Rule


def matmul(of: Operands, data: int = 0) -> int:
    """Each result sums over the last axis of the left operand."""
    return math.prod(of.result()) * of.shape(data)[-1]


def _turned_matmul(of: Operands) -> int:
    """FusedMatMul: the left operand is summed over its first matrix axis where it is transposed."""
    return math.prod(of.result()) * of.shape(0)[-2 if of.integer("transA") else -1]


def _gemm(of: Operands) -> int:
    return math.prod(of.result()) * of.shape(0)[0 if of.integer("transA") else -1]


def _blocks(of: Operands) -> int:
    """MatMulNBits says in an attribute how many columns of weights its packed bytes are."""
    return math.prod(of.shape(0)[:-1]) * of.integer("K") * of.integer("N")


def _conv(of: Operands, weight: int = 1) -> int:
    """Each result sums over one kernel: its channels are those of one group."""
    return math.prod(of.result()) * math.prod(of.shape(weight)[1:])


def _conv_transpose(of: Operands) -> int:
    return math.prod(of.shape(0)) * math.prod(of.shape(1)[1:])


def _recurrent(of: Operands, gates: int) -> int:
    """W·x and R·h of every gate, step, row and direction; peepholes multiply element by element."""
    first, second, width = of.shape(0)
    hidden = of.integer("hidden_size") or of.first_result()[-1]
    directions = 2 if of.text("direction") == "bidirectional" else 1
    return first * second * directions * gates * hidden * (width + hidden)


def _einsum(of: Operands) -> int:
    """Operands are multiplied from left to right; each time, axes that nothing after needs are summed away."""
    left, _, right = of.text("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    sizes: dict[str, int] = {}
    labels = [_labels(term, of.shape(at), sizes) for at, term in enumerate(terms)]
    implied = {label for term in labels for label in term if sum(other.count(label) for other in labels) == 1}
    wanted = set(right.replace("...", "")) if right or "->" in of.text("equation") else implied
    wanted |= {label for term in labels for label in term if label.startswith("...")}
    total, held = 0, set(labels[0])
    for at, term in enumerate(labels[1:], start=1):
        joined = held | set(term)
        total += math.prod(sizes[label] for label in joined)
        held = joined & wanted.union(*labels[at + 1 :])
    return total


def _labels(term: str, shape: tuple[int, ...], sizes: dict[str, int]) -> list[str]:
    """Name an operand's axes and record their sizes; axes of an ellipsis are counted from the right."""
    before, dots, after = term.partition("...")
    hidden = len(shape) - len(before) - len(after) if dots else 0
    names = [*before, *(f"...{hidden - at}" for at in range(hidden)), *after]
    for name, size in zip(names, shape, strict=True):
        sizes[name] = max(size, sizes.get(name, 1))
    return names


def _affine_grid(of: Operands) -> int:
    """Each coordinate is a row of theta times a homogeneous place."""
    return math.prod(of.result()) * of.shape(0)[-1]


_RECURRENT = {name: partial(_recurrent, gates=gates) for name, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))}
STANDARD: Mapping[str, Rule] = {
    **dict.fromkeys(("MatMul", "MatMulInteger"), matmul),
    **dict.fromkeys(("CausalConvWithState", "Conv", "ConvInteger", "DeformConv"), _conv),
    **_RECURRENT,
    "AffineGrid": _affine_grid,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "QLinearConv": partial(_conv, weight=3),
    "QLinearMatMul": matmul,
}
VENDOR: Mapping[str, Rule] = {
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulInteger16", "MatMulIntegerToFloat"), matmul),
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul"), _turned_matmul),
    **dict.fromkeys(("FusedGemm", "QGemm"), _gemm),
    "DynamicQuantizeLSTM": _RECURRENT["LSTM"],
    "FusedConv": _conv,
    "MatMulNBits": _blocks,
    "QLinearConv": partial(_conv, weight=3),
}
