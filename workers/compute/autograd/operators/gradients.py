"""Which operators pass no gradient to their inputs, and why. All others are checked against finite differences."""

from collections.abc import Mapping
from types import MappingProxyType

_WHOLE = "yields whole numbers or truth values"
_STEPS = "is constant between its steps: the derivative is zero where there is one"
_MADE = "makes its result from shapes, lengths or attributes"
_HOST = "reads its inputs as plain numbers"
_DRAWN = "draws random numbers"
_INTEGERS = "computes in whole numbers"

_STANDARD: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"), _WHOLE
        ),
        **dict.fromkeys(
            ("ArgMax", "ArgMin", "IsInf", "IsNaN", "NonMaxSuppression", "NonZero", "Size", "Shape"), _WHOLE
        ),
        **dict.fromkeys(("OptionalHasElement", "SequenceLength", "TfIdfVectorizer"), _WHOLE),
        **dict.fromkeys(("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"), _INTEGERS),
        **dict.fromkeys(("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"), _INTEGERS),
        **dict.fromkeys(("Ceil", "Floor", "Hardmax", "Round", "Sign"), _STEPS),
        **dict.fromkeys(("BlackmanWindow", "Constant", "ConstantOfShape", "EyeLike", "HammingWindow"), _MADE),
        **dict.fromkeys(("HannWindow", "SequenceEmpty"), _MADE),
        **dict.fromkeys(("MelWeightMatrix", "Range"), _HOST),
        **dict.fromkeys(("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"), _DRAWN),
        **dict.fromkeys(("RandomUniform", "RandomUniformLike"), _DRAWN),
        "BitCast": "reads the bits of another type",
        "DynamicQuantizeLinear": "rounds by the range of the values themselves",
        "QuantizeLinear": "rounds; training passes the gradient straight through inside the range",
        "Unique": "sorts and drops by value",
    }
)
_MICROSOFT: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger16", "NhwcMaxPool"), _INTEGERS),
        **dict.fromkeys(("MatMulIntegerToFloat", "QAttention", "QEmbedLayerNormalization", "QGemm"), _INTEGERS),
        **dict.fromkeys(("QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearConv"), _INTEGERS),
        **dict.fromkeys(("QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid"), _INTEGERS),
        **dict.fromkeys(("QLinearSoftmax", "QLinearWhere"), _INTEGERS),
        **{name: _STANDARD[name] for name in ("QuantizeLinear", "Range", "Unique")},
    }
)
# By domain, as in `DOMAINS`, and name.
FORWARD_ONLY: Mapping[str, Mapping[str, str]] = MappingProxyType({"": _STANDARD, "com.microsoft": _MICROSOFT})
