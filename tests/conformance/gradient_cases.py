"""Small inputs in double precision for every differentiable operator; what they show is in test_gradients."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Case:
    """One node: its inputs (None is absent), attributes, opset (0 is the newest) and number of outputs.

    `step` is the width of the finite differences: wide where the standard computes in single precision.
    Inputs in `fixed` are not varied: running statistics, regions and bounds that are read as numbers.
    """

    inputs: Sequence[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 0
    outputs: int = 1
    fixed: tuple[int, ...] = ()
    domain: str = ""
    step: float = 1e-6


@dataclass(frozen=True)
class Graph:
    """A whole graph in ONNX's textual form, for operators that one node does not show."""

    text: str
    inputs: Sequence[Array]


def real(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> NDArray[np.float64]:
    """Return uniform numbers."""
    return np.random.default_rng((seed, *shape)).uniform(low, high, shape)


def whole(*values: Any) -> NDArray[np.int64]:
    """Return an integer vector."""
    return np.array(values, np.int64)


def _unary(low: float = -2.0, high: float = 2.0, **attributes: Any) -> Case:
    return Case([real(2, 3, low=low, high=high)], attributes)


def _binary(low: float = -2.0, high: float = 2.0, **attributes: Any) -> Case:
    return Case([real(2, 3, low=low, high=high), real(3, low=low, high=high, seed=1)], attributes)


def _reduction(low: float = -2.0) -> Case:
    return Case([real(2, 3, 2, low=low), whole(0, 2)])


def _image(*more: Array, **attributes: Any) -> Case:
    return Case([real(1, 2, 4, 4), *more], attributes)


_SMOOTH = (
    "Abs Asinh Atan Celu Cos Cosh Dropout Elu Erf Exp Gelu HardSigmoid HardSwish Identity LeakyRelu LogSoftmax Mish "
    "Neg Relu Selu Shrink Sigmoid Sin Sinh Softmax Softplus Softsign Swish Tanh ThresholdedRelu Flatten Transpose Trilu"
)
_PAIRS = "Add Max Mean Min Mul PRelu Sub Sum"
_REDUCTIONS = "ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"

ELEMENTWISE: dict[str, Case] = {
    **{name: _unary() for name in _SMOOTH.split()},
    **{name: _binary() for name in _PAIRS.split()},
    **{name: _unary(0.5, 2.0) for name in ("Log", "Reciprocal", "Sqrt")},
    **{name: _unary(-0.9, 0.9) for name in ("Acos", "Asin", "Atanh", "Tan")},
    "Acosh": _unary(1.1, 3.0),
    "Cast": _unary(to=TensorProto.DOUBLE),
    "CastLike": _binary(),
    "Clip": Case([real(2, 3), np.array(-0.7), np.array(0.9)]),
    "CumProd": Case([real(2, 3), np.array(1)], {"exclusive": 1}),
    "CumSum": Case([real(2, 3), np.array(1)], {"reverse": 1}),
    "Div": _binary(0.5, 2.0),
    "Mod": _binary(0.5, 2.0, fmod=1),
    "Pow": _binary(0.5, 2.0),
    "Where": Case([np.array([True, False, True]), real(2, 3), real(3, seed=1)]),
}

REDUCING: dict[str, Case] = {
    **{name: _reduction() for name in _REDUCTIONS.split()},
    "ReduceLogSum": _reduction(0.5),
    "GlobalAveragePool": _image(),
    "GlobalLpPool": _image(p=3),
    "GlobalMaxPool": _image(),
    "AveragePool": _image(kernel_shape=[2, 2], strides=[3, 1], pads=[0, 1, 1, 0], ceil_mode=1),
    "LpPool": _image(kernel_shape=[2, 2], p=3),
    "MaxPool": _image(kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 0]),
    "MaxUnpool": Case(
        [real(1, 1, 2, 2), whole(5, 7, 13, 15).reshape(1, 1, 2, 2)], {"kernel_shape": [2, 2], "strides": [2, 2]}
    ),
    "TopK": Case([real(2, 5), whole(3)], outputs=2),
}

LINEAR: dict[str, Case] = {
    "Conv": _image(real(4, 1, 3, 2, seed=1), real(4, seed=2), group=2, pads=[1, 0, 0, 1], strides=[2, 1]),
    "ConvTranspose": _image(real(2, 1, 3, 2, seed=1), real(1, seed=2), strides=[2, 1], pads=[1, 0, 0, 0]),
    "DeformConv": Case(
        [real(1, 2, 3, 3), real(2, 2, 2, 2), real(1, 8, 2, 2, low=0.1, high=0.4), real(2), real(1, 4, 2, 2, seed=1)],
    ),
    "DequantizeLinear": Case([np.array([-7, 3, 90], np.int8), np.array(0.3)]),
    "Det": Case([real(2, 3, 3)]),
    "Einsum": Case([real(2, 3), real(3, 2)], {"equation": "ij,jk->ik"}),
    "Gemm": Case([real(3, 2), real(4, 3), real(4)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    "MatMul": Case([real(2, 2, 3), real(3, 2)]),
}

NORMALIZING: dict[str, Case] = {
    "BatchNormalization": Case(
        [real(3, 2, 2), real(2), real(2, seed=1), real(2, seed=2), real(2, low=0.5)], fixed=(3, 4)
    ),
    "GroupNormalization": Case([real(2, 4, 3), real(4), real(4, seed=1)], {"num_groups": 2}),
    "InstanceNormalization": Case([real(2, 2, 4), real(2), real(2, seed=1)]),
    "LRN": Case([real(1, 4, 2, 2)], {"size": 3, "alpha": 0.3}),
    "LayerNormalization": Case([real(2, 4), real(4), real(4, seed=1)]),
    "LpNormalization": Case([real(2, 3)], {"p": 2, "axis": 1}),
    "MeanVarianceNormalization": Case([real(2, 2, 2, 2)]),
    "RMSNormalization": Case([real(2, 4), real(4)]),
    "SimplifiedLayerNormalization": Case([real(2, 4), real(4)]),
}

SHAPING: dict[str, Case] = {
    "CenterCropPad": Case([real(3, 4), whole(5, 2)]),
    "Concat": Case([real(2, 2), real(2, 1, seed=1)], {"axis": 1}),
    "DepthToSpace": Case([real(1, 4, 2, 2)], {"blocksize": 2}),
    "Expand": Case([real(2, 1), whole(2, 3)]),
    "Pad": Case([real(2, 3), whole(1, 0, 0, 2)], {"mode": "reflect"}),
    "Reshape": Case([real(2, 3), whole(3, -1)]),
    "Resize": Case([real(1, 1, 3, 3), None, np.array([1, 1, 2, 1.5], np.float32)], {"mode": "cubic"}),
    "SpaceToDepth": Case([real(1, 1, 2, 4)], {"blocksize": 2}),
    "Split": Case([real(2, 5), whole(2, 3)], {"axis": 1}, outputs=2),
    "Squeeze": Case([real(2, 1, 3), whole(1)]),
    "Tile": Case([real(2, 2), whole(1, 2)]),
    "Unsqueeze": Case([real(2, 3), whole(0)]),
    "Upsample": Case([real(1, 1, 2, 3), np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}, opset=9),
}

INDEXING: dict[str, Case] = {
    "Compress": Case([real(3, 2), np.array([True, False, True])], {"axis": 0}),
    "Gather": Case([real(3, 2), whole(2, 0, 2, -1)]),
    "GatherElements": Case([real(3, 2), whole(2, 0).reshape(1, 2)]),
    "GatherND": Case([real(3, 2), whole(2, 0, 1, -1).reshape(2, 2)]),
    "OneHot": Case([whole(1, 0, 2), whole(3), real(2)]),
    "ReverseSequence": Case([real(3, 2), whole(2, 3)]),
    "Scatter": Case([real(3, 2), whole(2, 0).reshape(1, 2), real(1, 2)], opset=10),
    "ScatterElements": Case([real(3, 2), whole(2, 0).reshape(1, 2), real(1, 2)], {"reduction": "mul"}),
    "ScatterND": Case([real(3, 2), whole(2, 0, 2).reshape(3, 1), real(3, 2)], {"reduction": "add"}),
    "Slice": Case([real(4, 3), whole(3, 0), whole(0, 2), whole(0, 1), whole(-2, 1)]),
    "TensorScatter": Case([real(2, 4, 2), real(2, 2, 2), whole(1, 2)]),
}

SAMPLING: dict[str, Case] = {
    "AffineGrid": Case([real(1, 2, 3), whole(1, 1, 2, 3)]),
    "Col2Im": Case([real(1, 4, 9), whole(4, 4), whole(2, 2)]),
    "DFT": Case([real(1, 4, 1)], {"onesided": 1}),
    "GridSample": Case([real(1, 1, 3, 3), real(1, 2, 2, 2, low=-0.8, high=0.8)], {"mode": "cubic"}),
    "MaxRoiPool": Case([real(1, 2, 4, 4), np.array([[0.0, 0, 1, 3, 2]])], {"pooled_shape": [2, 2]}, fixed=(1,)),
    "RoiAlign": Case(
        [real(1, 2, 4, 4), np.array([[0.3, 0.6, 2.7, 3.1]]), whole(0)],
        {"output_height": 2, "output_width": 2, "sampling_ratio": 2},
        fixed=(1,),
    ),
    "STFT": Case([real(1, 8, 1), np.array(2), real(4, low=0.2, high=1)]),
}

_HEADS = [real(1, 2, 3, 4, seed=at) for at in range(3)]
_ROWS = [real(1, 3, 4, seed=at) for at in range(3)]

TRANSFORMING: dict[str, Case] = {
    "Attention": Case([*_HEADS, real(3, 3)], {"softcap": 2.0}),
    "CausalConvWithState": Case([real(1, 2, 4), real(2, 1, 3), real(2), real(1, 2, 2)], outputs=2),
    "GRU": Case([real(2, 1, 2), real(1, 6, 2), real(1, 6, 2), real(1, 12)], {"hidden_size": 2}, outputs=2),
    "LSTM": Case([real(2, 1, 2), real(1, 8, 2), real(1, 8, 2), real(1, 16)], {"hidden_size": 2}, outputs=3),
    "LinearAttention": Case(_ROWS, {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "linear"}, outputs=2, step=0.1),
    "NegativeLogLikelihoodLoss": Case([real(3, 4), whole(0, 3, 2), real(4, low=0.5)]),
    "RNN": Case([real(2, 1, 2), real(1, 2, 2), real(1, 2, 2)], {"hidden_size": 2, "direction": "reverse"}, outputs=2),
    "RotaryEmbedding": Case([real(1, 2, 3, 4), real(5, 2), real(5, 2, seed=1), whole(0, 2, 4).reshape(1, 3)]),
    "SoftmaxCrossEntropyLoss": Case([real(3, 4), whole(0, 3, 2), real(4, low=0.5)], outputs=2),
    "SwiGLU": Case([real(2, 4), real(2, 4, seed=1)]),
}

_HEADER = '<ir_version: 8, opset_import: ["" : 17]> g '
_IF = """(double[3] x, bool c) => (y) {
    y = If (c) <then_branch = a () => (s) { s = Sin(x) }, else_branch = b () => (t) { t = Exp(x) }>
}"""
_LOOP = """(double[3] x, int64 n) => (y, all) {
    y, all = Loop (n, , x) <
        body = a (int64 i, bool c, double[3] s) => (k, t, e) { k = Identity(c) t = Mul(s, x) e = Sin(t) }
    >
}"""
_SCAN = """(double[2] s, double[3, 2] x) => (y, all) {
    y, all = Scan <
        num_scan_inputs = 1, body = a (double[2] q, double[2] r) => (t, e) { t = Mul(q, r) e = Sin(t) }
    > (s, x)
}"""
_SEQUENCE = """(double[4, 2] x, int64 p) => (y) {
    all = SplitToSequence <axis = 0> (x)
    part = SequenceAt (all, p)
    fewer = SequenceErase (all, p)
    more = SequenceInsert (fewer, part)
    once = ConcatFromSequence <axis = 0> (more)
    twice = SequenceConstruct (once, x)
    y = ConcatFromSequence <axis = 0, new_axis = 1> (twice)
}"""
_SEQUENCES = (
    "ConcatFromSequence",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceErase",
    "SequenceInsert",
    "SplitToSequence",
)
_OPTIONAL = "(double[3] x) => (y) { y = OptionalGetElement (x) }"

_MAP = """(double[3, 2] x) => (y) {
    all = SplitToSequence <axis = 0> (x)
    mapped = SequenceMap <body = a (double[1, 2] s) => (double[1, 2] t) { t = Sin(s) }> (all)
    y = ConcatFromSequence <axis = 0> (mapped)
}"""

GRAPHS: dict[str, Graph] = {
    "If": Graph(_HEADER + _IF, [real(3), np.array(True)]),
    "Loop": Graph(_HEADER + _LOOP, [real(3), np.array(3)]),
    "OptionalGetElement": Graph(_HEADER.replace("17", "18") + _OPTIONAL, [real(3)]),
    "SequenceMap": Graph(_HEADER + _MAP, [real(3, 2)]),
    "Scan": Graph(_HEADER + _SCAN, [real(2), real(3, 2)]),
    **dict.fromkeys(_SEQUENCES, Graph(_HEADER + _SEQUENCE, [real(4, 2), np.array(1)])),
}

SCIKIT: dict[str, Case] = {
    "ArrayFeatureExtractor": Case([real(2, 3), whole(2, 0)], opset=1, domain="ai.onnx.ml"),
    "Scaler": Case([real(2, 2)], {"offset": [0.5, -1.0], "scale": [2.0, 0.5]}, opset=1, domain="ai.onnx.ml", step=0.1),
}

PREVIEW: dict[str, Case] = {
    "FlexAttention": Case(_HEADS, opset=1, domain="ai.onnx.preview"),
}

CASES: dict[str, Case | Graph] = {
    **ELEMENTWISE,
    **REDUCING,
    **LINEAR,
    **NORMALIZING,
    **SHAPING,
    **INDEXING,
    **SAMPLING,
    **TRANSFORMING,
    **GRAPHS,
}

# Other ways through a rule than the one above.
VARIANTS: list[tuple[str, Case]] = [
    ("AveragePool", _image(kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)),
    ("Conv", Case([real(1, 2, 5), real(3, 2, 2)], {"auto_pad": "SAME_LOWER", "dilations": [2]})),
    ("Conv", Case([real(1, 1, 3, 3, 3), real(2, 1, 2, 2, 2)])),
    ("GRU", Case([real(3, 2, 2), real(1, 6, 2), real(1, 6, 2)], {"hidden_size": 2, "linear_before_reset": 1})),
    ("Gather", Case([real(2, 3, 2), whole(2, 0).reshape(2, 1)], {"axis": 1})),
    ("Gelu", _unary(approximate="tanh")),
    ("GridSample", Case([real(1, 1, 3, 3), real(1, 2, 2, 2, low=-0.8, high=0.8)], {"padding_mode": "border"})),
    ("LayerNormalization", Case([real(2, 2, 3), real(2, 3)], {"axis": 1}, outputs=3)),
    (
        "LSTM",
        Case(
            [
                *(real(3, 2, 2), real(2, 8, 2), real(2, 8, 2), real(2, 16), np.array([3, 2], np.int32)),
                *(real(2, 2, 2), real(2, 2, 2, seed=1), real(2, 6)),
            ],
            {"hidden_size": 2, "direction": "bidirectional"},
            outputs=3,
        ),
    ),
    ("Pad", Case([real(2, 3), whole(1, -1, 0, 2)], {"mode": "constant"})),
    ("Pow", Case([real(2, 3), np.array(3)])),
    ("Resize", Case([real(1, 1, 5, 5), None, None, whole(1, 1, 3, 2)], {"mode": "linear", "antialias": 1})),
    ("Resize", Case([real(1, 1, 3, 3), None, np.array([1, 1, 2, 1.5], np.float32)])),
    ("RoiAlign", Case([real(1, 1, 4, 4), np.array([[0.3, 0.6, 2.7, 3.1]]), whole(0)], {"mode": "max"}, fixed=(1,))),
    ("ScatterElements", Case([real(3, 2), whole(2, 0).reshape(1, 2), real(1, 2)], {"reduction": "max"})),
    ("ScatterND", Case([real(3, 2), whole(2, 0).reshape(2, 1), real(2, 2)])),
    ("Softmax", Case([real(2, 2, 3)], {"axis": 1}, opset=11)),
]
# Where a root is taken of zero: training goes on through a plane that an activation has silenced.
SILENT: dict[str, Case] = {
    "GlobalLpPool": Case([np.zeros((1, 1, 2, 2))]),
    "LpNormalization": Case([np.zeros((2, 3))]),
    "LpPool": Case([np.zeros((1, 1, 2, 2))], {"kernel_shape": [2, 2]}),
    "MeanVarianceNormalization": Case([np.zeros((1, 1, 2, 2))]),
    "ReduceL2": Case([np.zeros((2, 3)), whole(1)]),
}
