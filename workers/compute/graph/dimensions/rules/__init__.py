"""How dimensions hang together in each operator: one rule an operator, by family. What has no rule is a barrier."""

from collections.abc import Mapping

from workers.compute.graph.dimensions.rules import (
    attention,
    convolution,
    elementwise,
    layout,
    normalization,
    products,
    recurrent,
    reductions,
    slicing,
)
from workers.compute.graph.dimensions.site import Rule

RULES: Mapping[str, Rule] = {
    **elementwise.RULES,
    **products.RULES,
    **convolution.RULES,
    **normalization.RULES,
    **reductions.RULES,
    **layout.RULES,
    **slicing.RULES,
    **recurrent.RULES,
    **attention.RULES,
}
