"""Fourier transforms and the mel scale. Complex numbers are a last axis of two, as the standard has them."""

import math

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compute.autograd.dtypes import TORCH_TYPES, widen
from workers.compute.autograd.operators.base import Kernel, Node, Rule, scalar


def _complex(x: Tensor) -> Tensor:
    return x.squeeze(-1) if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())


def _pairs(x: Tensor) -> Tensor:
    # An inverse transform of real numbers is a conjugate that is still to be computed.
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x.unsqueeze(-1)


def _dft(node: Node) -> Kernel:
    inverse, one_sided = bool(node.integer("inverse")), bool(node.integer("onesided"))
    # The axis was an attribute until opset 19.
    fixed = node.integer("axis", 1) if node.opset < 20 else -2  # noqa: PLR2004 - opset numbers

    def run(x: Tensor, length: Tensor | None = None, axis_input: Tensor | None = None) -> Tensor:
        axis = (fixed if axis_input is None else int(scalar(axis_input))) % x.dim()
        size = None if length is None else int(scalar(length))
        signal = _complex(x)
        if one_sided:
            return _pairs(torch.fft.irfft(signal, size, axis) if inverse else torch.fft.rfft(signal, size, axis))
        return _pairs(torch.fft.ifft(signal, size, axis) if inverse else torch.fft.fft(signal, size, axis))

    return run


def _stft(node: Node) -> Kernel:
    one_sided = bool(node.integer("onesided", 1))

    def run(x: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None) -> Tensor:
        size = len(window) if window is not None else int(scalar(length)) if length is not None else x.shape[1]
        frames = _complex(x).unfold(1, size, int(scalar(step)))
        frames = frames if window is None else frames * window
        return _pairs(torch.fft.rfft(frames) if one_sided and not frames.is_complex() else torch.fft.fft(frames))

    return run


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _mel_weights(node: Node) -> Kernel:
    kind = widen(TORCH_TYPES[ir.DataType(node.integer("output_datatype", 1))], node.precision)

    def run(bins: Tensor, length: Tensor, rate: Tensor, low: Tensor, high: Tensor) -> Tensor:
        count, size = int(scalar(bins)), int(scalar(length))
        lowest, highest = _mel(float(scalar(low))), _mel(float(scalar(high)))
        mels = torch.arange(count + 2, dtype=torch.float64) * (highest - lowest) / (count + 2) + lowest
        edges = torch.floor((size + 1) * 700 * (10 ** (mels / 2595) - 1) / float(scalar(rate)))
        left, centre, right = edges[:-2], edges[1:-1], edges[2:]
        rows = torch.arange(size // 2 + 1, dtype=torch.float64).unsqueeze(1)
        # A triangle whose side has no width rises at once.
        rise = torch.where(centre > left, (rows - left) / (centre - left).clamp(min=1), (rows == centre).double())
        fall = torch.where(right > centre, (right - rows) / (right - centre).clamp(min=1), (rows == centre).double())
        return torch.where(rows <= centre, rise, fall).clamp(min=0).to(kind)

    return run


RULES: dict[str, Rule] = {"DFT": _dft, "MelWeightMatrix": _mel_weights, "STFT": _stft}
