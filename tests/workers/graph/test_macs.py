"""MACs of one node each, against counts by hand."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from workers.compute.graph.costs import cost
from workers.compute.graph.model import Model


def parsed(inputs: str, body: str, opset: int = 23) -> Model:
    """Return a model from its text: inputs without a batch are weights, the output is named y and has no shape."""
    imports = f'["" : {opset}, "com.microsoft" : 1]'
    proto = onnx.parser.parse_model(f"<ir_version: 9, opset_import: {imports}> g ({inputs}) => (float y) {{ {body} }}")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    for value in list(proto.graph.input):
        kind = value.type.tensor_type
        if kind.shape.dim and not any(size.dim_param for size in kind.shape.dim):
            shape = [size.dim_value for size in kind.shape.dim]
            zeros = np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
            proto.graph.initializer.append(onnx.numpy_helper.from_array(zeros, value.name))
            proto.graph.input.remove(value)
    return Model(ir.from_proto(proto))


PRODUCTS = {
    "conv of two groups, stride 2": (
        "float[batch,6,8,8] x, float[4,3,3,3] w",
        "y = Conv <group=2, strides=[2,2], pads=[1,1,1,1]> (x, w)",
        4 * 4 * 4 * (3 * 9),
    ),
    "depthwise conv": ("float[batch,6,8,8] x, float[6,1,3,3] w", "y = Conv <group=6> (x, w)", 6 * 36 * 9),
    "transposed conv": ("float[batch,6,5,5] x, float[6,2,3,3] w", "y = ConvTranspose (x, w)", 6 * 25 * 2 * 9),
    "deformable conv": (
        "float[batch,2,4,4] x, float[3,2,2,2] w, float[batch,8,3,3] offset",
        "y = DeformConv (x, w, offset)",
        3 * 9 * 2 * 4,
    ),
    "integer conv": ("uint8[batch,2,4,4] x, uint8[3,2,2,2] w", "y = ConvInteger (x, w)", 3 * 9 * 2 * 4),
    "transposed gemm": ("float[width,batch] x, float[5,1] w", "y = Gemm <transA=1, transB=1> (x, w)", None),
    "batched matmul": ("float[batch,3,4,5] x, float[5,6] w", "y = MatMul (x, w)", 3 * 4 * 5 * 6),
    "vector matmul": ("float[batch,5] x, float[5] w", "y = MatMul (x, w)", 5),
    "lstm of both directions": (
        "float[steps,batch,3] x, float[2,16,3] w, float[2,16,4] r",
        'y = LSTM <hidden_size=4, direction="bidirectional"> (x, w, r)',
        None,
    ),
    "gru with rows first": (
        "float[batch,7,3] x, float[1,12,3] w, float[1,12,4] r",
        "y = GRU <hidden_size=4, layout=1> (x, w, r)",
        7 * 12 * (3 + 4),
    ),
    "einsum of two": ("float[batch,3,4] a, float[batch,4,5] b", 'y = Einsum <equation="bij,bjk->bik"> (a, b)', 60),
    "einsum of three": (
        "float[batch,3,4] a, float[4,5] b, float[5,6] c",
        'y = Einsum <equation="bij,jk,kl->bil"> (a, b, c)',
        3 * 4 * 5 + 3 * 5 * 6,
    ),
    "einsum with an ellipsis": (
        "float[batch,3,4] a, float[4,5] b",
        'y = Einsum <equation="...ij,jk->...ik"> (a, b)',
        60,
    ),
    "einsum of one": ("float[batch,3] a", 'y = Einsum <equation="bi->b"> (a)', 0),
    "attention by head, grouped": (
        "float[batch,4,5,8] q, float[batch,2,7,8] k, float[batch,2,7,6] v",
        "y = Attention (q, k, v)",
        4 * 5 * 7 * (8 + 6),
    ),
    "attention of rows": (
        "float[batch,5,32] q, float[batch,7,16] k, float[batch,7,12] v",
        "y = Attention <q_num_heads=4, kv_num_heads=2> (q, k, v)",
        4 * 5 * 7 * (8 + 6),
    ),
    "attention with a past": (
        "float[batch,4,5,8] q, float[batch,4,7,8] k, float[batch,4,7,8] v, float[batch,4,3,8] p",
        "y, dk, dv = Attention (q, k, v, , p, p)",
        4 * 5 * (7 + 3) * 16,
    ),
    "projecting attention": (
        "float[batch,5,8] x, float[8,24] w, float[24] b",
        "y = com.microsoft.Attention <num_heads=2> (x, w, b)",
        5 * 8 * 24 + 2 * 5 * 5 * 8,
    ),
    "quantised attention": (
        "uint8[batch,5,8] x, uint8[8,24] w, float[24] b, float s, float t",
        "y = com.microsoft.QAttention <num_heads=2> (x, w, b, s, t)",
        5 * 8 * 24 + 2 * 5 * 5 * 8,
    ),
    "attention of several heads": (
        "float[batch,5,8] q, float[batch,7,8] k, float[batch,7,8] v",
        "y = com.microsoft.MultiHeadAttention <num_heads=2> (q, k, v)",
        2 * 5 * 7 * 8,
    ),
    "four-bit matmul": (
        "float[batch,3,64] x, uint8[10,2,16] w, float[20] s",
        "y = com.microsoft.MatMulNBits <K=64, N=10, bits=4, block_size=32> (x, w, s)",
        3 * 64 * 10,
    ),
    "fused matmul": ("float[batch,4,3] x, float[4,5] w", "y = com.microsoft.FusedMatMul <transA=1> (x, w)", 3 * 4 * 5),
    "fused conv": (
        "float[batch,2,4,4] x, float[3,2,2,2] w",
        'y = com.microsoft.FusedConv <activation="Relu"> (x, w)',
        3 * 9 * 2 * 4,
    ),
    "fused gemm": ("float[batch,4] x, float[4,5] w, float[5] b", "y = com.microsoft.FusedGemm (x, w, b)", 20),
    "quantised gemm": (
        "uint8[batch,4] x, float xs, uint8 xz, uint8[4,5] w, float ws, uint8 wz",
        "y = com.microsoft.QGemm (x, xs, xz, w, ws, wz)",
        20,
    ),
    "integer matmul to float": (
        "uint8[batch,4] x, uint8[4,5] w, float xs, float ws",
        "y = com.microsoft.MatMulIntegerToFloat (x, w, xs, ws)",
        20,
    ),
    "quantised lstm": (
        "float[steps,batch,3] x, int8[1,3,16] w, int8[1,4,16] r",
        "y = com.microsoft.DynamicQuantizeLSTM <hidden_size=4> (x, w, r)",
        None,
    ),
    "dft of real numbers": ("float[batch,8,1] x", "n = Constant <value_int=1> () y = DFT (x, , n)", 8 * 8 * 2),
    "stft": (
        "float[batch,10,1] x",
        "s = Constant <value_int=3> () l = Constant <value_int=4> () y = STFT (x, s, , l)",
        3 * 3 * 4 * 2,
    ),
    "grid of coordinates": (
        "float[batch,2,3] t",
        "s = Constant <value_ints=[1,1,4,5]> () y = AffineGrid (t, s)",
        4 * 5 * 2 * 3,
    ),
}


@pytest.mark.parametrize("name", [name for name, (_, _, macs) in PRODUCTS.items() if macs is not None])
def test_macs_are_as_counted_by_hand_for(name: str) -> None:
    inputs, body, macs = PRODUCTS[name]
    assert cost(parsed(inputs, body)).macs == macs


SECOND = {
    "transposed gemm": 3 * 1 * 5,
    "lstm of both directions": 3 * 2 * 16 * (3 + 4),
    "quantised lstm": 3 * 16 * (3 + 4),
}


@pytest.mark.parametrize("name", SECOND)
def test_macs_are_as_counted_by_hand_when_rows_come_second(name: str) -> None:
    inputs, body, _ = PRODUCTS[name]
    # What comes first, here a step or a width, is taken for the batch, and is 1.
    assert cost(parsed(inputs, body), {"batch": 3}).macs == SECOND[name]


def test_macs_behind_an_operator_of_a_vendor_are_known() -> None:
    model = parsed(
        "float[batch,6] x, float[6,6] w, float[6,3] v",
        "a = com.microsoft.FusedMatMul (x, w) b = com.microsoft.QuickGelu (a) y = MatMul (b, v)",
    )
    assert cost(model).macs == 36 + 18


BRANCHES = """
y = If (c) <
  then_branch = one () => (float[batch,3] t) { t = MatMul (x, v) },
  else_branch = two () => (float[batch,3] e) { m = MatMul (x, w) e = MatMul (m, v) }
>
"""
LOOP = """
n = Constant <value_int=4> ()
y = Loop (n, , x) <
  body = each (int64 i, bool k, float[batch,6] h) => (bool g, float[batch,6] o) { g = Identity (k) o = MatMul (h, w) }
>
"""
SCAN = """
f, y = Scan <num_scan_inputs=1, body = each (float[batch,6] h, float[6] r) => (float[batch,6] o, float[6] p)
  { s = MatMul (r, w) o = Add (h, s) p = Identity (o) }> (x, rows)
"""


def test_macs_of_the_dearest_branch_count_when_there_is_a_condition() -> None:
    assert cost(parsed("float[batch,6] x, float[6,6] w, float[6,3] v, bool c", BRANCHES)).macs == 36 + 18


def test_weights_count_that_only_a_branch_reads() -> None:
    assert cost(parsed("float[batch,6] x, float[6,6] w, float[6,3] v, bool c", BRANCHES)).parameters == 36 + 18


def test_macs_count_for_each_trip_when_there_is_a_loop() -> None:
    assert cost(parsed("float[batch,6] x, float[6,6] w", LOOP)).macs == 4 * 36


def test_macs_are_unknown_when_the_trips_depend_on_data() -> None:
    assert cost(parsed("int64 n, float[batch,6] x, float[6,6] w", LOOP.partition("()")[2])).macs is None


def test_macs_count_for_each_row_when_there_is_a_scan() -> None:
    found = cost(parsed("float[batch,6] x, float[5,6] rows, float[6,6] w", SCAN))
    assert found.nodes[0].macs == 5 * 36


def test_macs_inside_a_function_of_the_model_count() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
    g (float[batch,4] x, float[batch,4,5] w) => (float[batch,1,5] y) { y = own.dense (x, w) }
    <opset_import: ["" : 18], domain: "own"> dense (a, b) => (c) { d = MatMul (a, b) c = Relu (d) }"""
    model = Model(ir.from_proto(onnx.parser.parse_model(text)))

    assert cost(model).macs == 20
    assert len(model.ir.functions) == 1
