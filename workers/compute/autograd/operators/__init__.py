"""The table of operators, merged from one module per family. A new operator is one line in its family's RULES."""

from collections.abc import Mapping
from types import MappingProxyType

from workers.compute.autograd.operators import (
    activations,
    classical,
    control,
    convolution,
    elementwise,
    generation,
    indexing,
    linear,
    normalization,
    pooling,
    quantization,
    randomness,
    recurrent,
    reductions,
    resizing,
    sequences,
    shapes,
    signals,
    vectorizing,
    vision,
)
from workers.compute.autograd.operators.base import Rule
from workers.compute.autograd.operators.microsoft import MICROSOFT_RULES, UNREGISTERED_RULES

__all__ = ["DOMAINS", "MICROSOFT_RULES", "ML_RULES", "RULES"]

_FAMILIES = (
    activations,
    control,
    convolution,
    elementwise,
    generation,
    indexing,
    linear,
    normalization,
    pooling,
    quantization,
    randomness,
    recurrent,
    reductions,
    resizing,
    sequences,
    shapes,
    signals,
    vectorizing,
    vision,
)

# By operator name in the standard domain; `ML_RULES` in ai.onnx.ml, `MICROSOFT_RULES` in com.microsoft.
RULES: Mapping[str, Rule] = MappingProxyType(
    {**{name: rule for family in _FAMILIES for name, rule in family.RULES.items()}, **UNREGISTERED_RULES}
)
ML_RULES: Mapping[str, Rule] = MappingProxyType(classical.RULES)
# The tables by domain; the standard one goes by no name.
DOMAINS: Mapping[str, Mapping[str, Rule]] = MappingProxyType(
    {"": RULES, "ai.onnx.ml": ML_RULES, "com.microsoft": MICROSOFT_RULES}
)
