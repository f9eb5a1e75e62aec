"""What coarser values in one tensor alone would cost, as a table."""

from collections.abc import Sequence

from app.contracts.report import LayerDamage
from app.services.sheets import Sheet

_HEADER = ["values", "tensor", "operator", "parameters", "damage"]
_MOST_LAYERS = 8  # for each setting; the JSON report has them all
_SETTINGS = ("int8", "int4", "ternary", "binary")


def sensitivity_sheet(layers: Sequence[LayerDamage]) -> Sheet:
    """Return for each setting, finest first, the tensors that it damages most."""
    return Sheet("What coarser values cost", _HEADER, [_row(layer) for layer in _worst(layers)])


def _worst(layers: Sequence[LayerDamage]) -> list[LayerDamage]:
    return [
        layer
        for setting in _SETTINGS
        for layer in sorted((one for one in layers if one.setting == setting), key=lambda one: -one.damage)[
            :_MOST_LAYERS
        ]
    ]


def _row(layer: LayerDamage) -> list[str]:
    return [layer.setting, layer.tensor, layer.operator, f"{layer.parameters:,}", f"{layer.damage:.3g}"]
