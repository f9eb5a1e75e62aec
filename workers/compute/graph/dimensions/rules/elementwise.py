"""Operators that work position by position, with broadcasting: what meets shrinks together."""

from collections.abc import Sequence

from workers.compute.graph.dimensions.ledger import Labels
from workers.compute.graph.dimensions.site import Rule, Site

UNARY = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Cos", "Cosh"),
    *("Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu"),
    *("Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh"),
    *("Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "QuickGelu"),
)
# Their further inputs are scalars, or only lend their type.
FIRST_INPUT = ("CastLike", "Clip", "Dropout")
BROADCAST = (
    *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual"),
    *("Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor"),
    *("BiasGelu", "FastGelu"),
)


def _same(site: Site) -> Sequence[Labels | None]:
    labels = site.input(0)
    return [labels] * len(site.node.outputs)


def broadcast(site: Site) -> Sequence[Labels | None]:
    """Couple every input that is given."""
    indices = [index for index in range(len(site.node.inputs)) if site.given(index) is not None]
    labels, sizes = [site.input(index) for index in indices], [site.size(index) for index in indices]
    known = [each for each in labels if each is not None]
    shapes = [each for each in sizes if each is not None]
    if len(known) < len(indices) or len(shapes) < len(indices):
        return site.barrier()
    return [site.broadcast(known, shapes)]


def _quantizing(site: Site) -> Sequence[Labels | None]:
    """Pass where one scale serves the whole tensor; zero points of rows are whole numbers, which have no labels."""
    scale = site.size(1)
    return [site.input(0)] if scale is not None and all(size == 1 for size in scale) else site.barrier()


RULES: dict[str, Rule] = {
    **dict.fromkeys((*UNARY, *FIRST_INPUT), _same),
    **dict.fromkeys(BROADCAST, broadcast),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantizing),
}
