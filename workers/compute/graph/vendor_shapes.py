"""Types of what `com.microsoft` operators yield, which onnx does not know. Knows no values."""

from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import TensorProto, helper

Kind = onnx.TypeProto
# Infers a node of the standard domain from the types of its inputs.
Infer = Callable[[onnx.NodeProto, Sequence[Kind]], Sequence[Kind]]
Sizes = Sequence[int | None]
# From attributes and the inputs' sizes, () for an absent input, to the sizes of each output (None: not known).
Rule = Callable[[Mapping[str, int], Sequence[Sizes]], Sequence[Sizes | None]]

# The standard operator that shapes like it, and the inputs that this takes.
_ALIKE: Mapping[str, tuple[str, tuple[int, ...]]] = {
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulInteger16", "MatMulIntegerToFloat"), ("MatMul", (0, 1))),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), ("Add", (0, 3))),
    **dict.fromkeys(("QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"), ("Identity", (0,))),
    **dict.fromkeys(("BiasGelu", "FastGelu", "Gelu", "Inverse", "QuickGelu", "RotaryEmbedding"), ("Identity", (0,))),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "Trilu"), ("Identity", (0,))),
    "FusedConv": ("Conv", (0, 1, 2)),
    "FusedGemm": ("Gemm", (0, 1, 2)),
    "GridSample": ("GridSample", (0, 1)),
    "QGemm": ("Gemm", (0, 3)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearConv": ("Conv", (0, 3)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearWhere": ("Where", (0, 1, 4)),
}
# Results of another type than the first input's: a fixed one, or that of the input at a place.
_FIXED: Mapping[str, int] = {
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DequantizeLinear"), TensorProto.FLOAT),
    "MatMulInteger16": TensorProto.INT32,
}
_LIKE_INPUT: Mapping[str, int] = {
    "EmbedLayerNormalization": 2,
    "GatherBlockQuantized": 2,
    "QAttention": 3,
    "QuantizeLinear": 2,
}


def vendor_outputs(node: onnx.NodeProto, kinds: Sequence[Kind | None], infer: Infer) -> list[Kind | None]:
    """Return the types of a node's outputs by place, None for those not known; `kinds` are its inputs', by place."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if attributes.get("channels_last"):
        return []
    if node.op_type in _ALIKE:
        shapes: Sequence[Sizes | None] = [_sizes(kind) for kind in _alike(node, kinds, infer)]
    elif node.op_type in _RULES:
        shapes = _RULES[node.op_type](attributes, [_sizes(kind) or () for kind in kinds])
    else:
        return []
    element = _element(node.op_type, kinds)
    return [None if shape is None else helper.make_tensor_type_proto(element, shape) for shape in shapes]


def _alike(node: onnx.NodeProto, kinds: Sequence[Kind | None], infer: Infer) -> Sequence[Kind]:
    op_type, places = _ALIKE[node.op_type]
    # The standard's operator takes no bytes; only sizes are asked for.
    chosen = {
        f"i{at}": helper.make_tensor_type_proto(TensorProto.FLOAT, _sizes(kind))
        for at in places
        if at < len(kinds) and (kind := kinds[at]) is not None
    }
    proto = helper.make_node(op_type, list(chosen), ["o0"])
    known = onnx.defs.get_schema(op_type).attributes
    proto.attribute.extend(attribute for attribute in node.attribute if attribute.name in known)
    return infer(proto, list(chosen.values()))


def _sizes(kind: Kind | None) -> Sizes | None:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return [size.dim_value if size.HasField("dim_value") else None for size in kind.tensor_type.shape.dim]


def _element(op_type: str, kinds: Sequence[Kind | None]) -> int:
    if op_type in _FIXED:
        return _FIXED[op_type]
    place = _LIKE_INPUT.get(op_type, 0)
    kind = kinds[place] if place < len(kinds) else None
    return kind.tensor_type.elem_type if kind is not None else int(TensorProto.UINT8)


def _same(_: Mapping[str, int], shapes: Sequence[Sizes]) -> Sequence[Sizes | None]:
    return [shapes[0]]


def _skipping(_: Mapping[str, int], shapes: Sequence[Sizes]) -> Sequence[Sizes | None]:
    return [shapes[0], None, None, shapes[0]]


def _transposed(attributes: Mapping[str, int], shapes: Sequence[Sizes]) -> Sequence[Sizes | None]:
    """Return the shape of FusedMatMul: two batches of matrices, each turned before it is multiplied."""
    left, right = shapes[:2]
    if min(len(left), len(right)) < 2 or attributes.get("transBatchA") or attributes.get("transBatchB"):  # noqa: PLR2004
        return []
    batch = left[:-2] if len(left) >= len(right) else right[:-2]
    rows = left[-1 if attributes.get("transA") else -2]
    return [[*batch, rows, right[-2 if attributes.get("transB") else -1]]]


def _blocks(attributes: Mapping[str, int], shapes: Sequence[Sizes]) -> Sequence[Sizes | None]:
    return [[*shapes[0][:-1], attributes["N"]]]


def _packed_attention(_: Mapping[str, int], shapes: Sequence[Sizes]) -> Sequence[Sizes | None]:
    """Return the shape of Attention: queries, keys and values lie side by side in the weight, each as wide."""
    wide = shapes[1][-1]
    return [[*shapes[0][:2], None if wide is None else wide // 3]]


def _attention(_: Mapping[str, int], shapes: Sequence[Sizes]) -> Sequence[Sizes | None]:
    query, value = shapes[0], shapes[2] if len(shapes) > 2 else ()  # noqa: PLR2004 - query, key, value
    return [[*query[:2], value[-1]]] if len(query) == len(value) == 3 else []  # noqa: PLR2004 - rows, length, width


def _embedding(_: Mapping[str, int], shapes: Sequence[Sizes]) -> Sequence[Sizes | None]:
    return [[*shapes[0], shapes[2][-1]]] if len(shapes[2]) else []


def _recurrent(attributes: Mapping[str, int], shapes: Sequence[Sizes]) -> Sequence[Sizes | None]:
    """Return the shapes of DynamicQuantizeLSTM: all steps, the last, and its cell."""
    steps, rows, _ = shapes[0]
    directions, hidden = shapes[1][0], attributes["hidden_size"]
    last = [directions, rows, hidden]
    return [[steps, *last[:1], rows, hidden], last, last]


_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skipping),
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul"), _transposed),
    **dict.fromkeys(("Attention", "QAttention"), _packed_attention),
    "DynamicQuantizeLSTM": _recurrent,
    "EmbedLayerNormalization": _embedding,
    "GroupQueryAttention": _same,
    "MatMulNBits": _blocks,
    "MultiHeadAttention": _attention,
}
