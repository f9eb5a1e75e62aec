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
    recurrent,
    reductions,
    resizing,
    shapes,
    signals,
    vision,
)
from workers.compute.autograd.operators.base import Rule

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
    recurrent,
    reductions,
    resizing,
    shapes,
    signals,
    vision,
)

# By operator name in the standard domain; `ML_RULES` in ai.onnx.ml.
RULES: Mapping[str, Rule] = MappingProxyType(
    {name: rule for family in _FAMILIES for name, rule in family.RULES.items()}
)
ML_RULES: Mapping[str, Rule] = MappingProxyType(classical.RULES)
