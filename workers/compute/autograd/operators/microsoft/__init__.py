"""The operators of `com.microsoft` that ONNX Runtime's optimiser and quantiser write, one module per family.

Hardware layouts (`com.microsoft.nchwc`) and operators without a CPU kernel in ONNX Runtime are left out: they are
refused by name.
"""

from collections.abc import Mapping
from types import MappingProxyType

from workers.compute.autograd.operators.base import Rule
from workers.compute.autograd.operators.microsoft import (
    attention,
    blocks,
    cached,
    embeddings,
    fused,
    integers,
    qlinear,
    recurrent,
    shapes,
)

_FAMILIES = (attention, blocks, cached, embeddings, fused, integers, qlinear, recurrent, shapes)

MICROSOFT_RULES: Mapping[str, Rule] = MappingProxyType(
    {name: rule for family in _FAMILIES for name, rule in family.RULES.items()}
)
# ONNX Runtime's own operator that it registers, and writes, in the standard domain.
UNREGISTERED_RULES: Mapping[str, Rule] = MappingProxyType(embeddings.UNREGISTERED_RULES)
