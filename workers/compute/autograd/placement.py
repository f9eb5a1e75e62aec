"""Which inputs an operator reads on the host, so that shape arithmetic never waits for an accelerator."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from workers.compute.autograd.operators.base import Kernel

# Positions of the inputs whose values are read as Python numbers.
HOST_INPUTS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "AffineGrid": (1,),
        "CenterCropPad": (1,),
        "ConstantOfShape": (0,),
        "CumProd": (1,),
        "CumSum": (1,),
        "Expand": (1,),
        "ExpandDims": (1,),
        "Col2Im": (1, 2),
        "DFT": (1, 2),
        "GroupQueryAttention": (6,),
        "Loop": (0,),
        "MaxUnpool": (2,),
        "MelWeightMatrix": (0, 1, 2, 3, 4),
        "NonMaxSuppression": (2, 3, 4),
        "OneHot": (1,),
        "Pad": (1, 2, 3),
        "Range": (0, 1, 2),
        "ReduceL1": (1,),
        "ReduceL2": (1,),
        "ReduceLogSum": (1,),
        "ReduceLogSumExp": (1,),
        "ReduceMax": (1,),
        "ReduceMean": (1,),
        "ReduceMin": (1,),
        "ReduceProd": (1,),
        "ReduceSum": (1,),
        "ReduceSumSquare": (1,),
        "Reshape": (1,),
        "Resize": (1, 2, 3),
        "STFT": (1, 3),
        "SequenceAt": (1,),
        "SequenceErase": (1,),
        "SequenceInsert": (2,),
        "Slice": (1, 2, 3, 4),
        "Split": (1,),
        "SplitToSequence": (1,),
        "Squeeze": (1,),
        "Tile": (1, 2),
        "TopK": (1,),
        "Trilu": (1,),
        "Unsqueeze": (1,),
        "Upsample": (1,),
    }
)


def move(kernel: Kernel, positions: Sequence[int], device: torch.device) -> Kernel:
    """Return the kernel with the inputs at these positions brought to the device first."""
    if not positions:
        return kernel
    chosen = frozenset(positions)

    def run(*inputs: Tensor | list[Tensor] | None) -> Any:  # noqa: ANN401 - whatever the kernel returns
        return kernel(*(_moved(x, device) if at in chosen else x for at, x in enumerate(inputs)))

    return run


def _moved(value: Tensor | list[Tensor] | None, device: torch.device) -> Tensor | list[Tensor] | None:
    if isinstance(value, list):
        return [part.to(device) for part in value]
    return None if value is None else value.to(device)
