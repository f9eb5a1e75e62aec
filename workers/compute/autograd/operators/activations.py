"""Activation functions, the softmax family and dropout."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule, plain


def _with(function: Callable[..., Tensor], **defaults: float) -> Rule:
    """Return the rule of a function whose float attributes are its further arguments, in order."""

    def rule(node: Node) -> Kernel:
        values = [node.number(name, default) for name, default in defaults.items()]
        return lambda x: function(x, *values)

    return rule


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def _elu(x: Tensor, alpha: float) -> Tensor:
    return F.elu(x, alpha)


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(x * alpha + beta, 0, 1)


def _shrink(x: Tensor, bias: float, lambd: float) -> Tensor:
    zero = torch.zeros((), dtype=x.dtype, device=x.device)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, zero)).to(x.dtype)


def _thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros((), dtype=x.dtype, device=x.device))


def _swish(x: Tensor, alpha: float) -> Tensor:
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


def _gelu(node: Node) -> Kernel:
    approximate = node.text("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


# Until opset 12 the axes from `axis` on count as one; the default axis was 1.
_FLAT_UNTIL = 12


def _softmax(function: Callable[[Tensor, int], Tensor]) -> Rule:
    def rule(node: Node) -> Kernel:
        if node.opset > _FLAT_UNTIL:
            axis = node.integer("axis", -1)
            return lambda x: function(x, axis)
        first = node.integer("axis", 1)

        def run(x: Tensor) -> Tensor:
            if first in (-1, x.dim() - 1):
                return function(x, -1)
            return function(x.flatten(first), -1).reshape(x.shape)

        return run

    return rule


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


def _dropout(node: Node) -> Kernel:
    """Dropout is identity: compressing a trained network needs its own outputs, not noisy ones."""
    if node.outputs == 1:
        return lambda x, *_: x
    mask_type = torch.bool if node.opset >= 10 else None  # noqa: PLR2004 - opset numbers are the standard's
    return lambda x, *_: (x, torch.ones_like(x, dtype=mask_type))


RULES: dict[str, Rule] = {
    "Celu": _with(F.celu, alpha=1.0),
    "Dropout": _dropout,
    "Elu": _with(_elu, alpha=1.0),
    "Gelu": _gelu,
    "HardSigmoid": _with(_hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": plain(F.hardswish),
    "Hardmax": _softmax(_hardmax),
    "LeakyRelu": _with(F.leaky_relu, alpha=0.01),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Mish": plain(F.mish),
    "PRelu": plain(_prelu),
    "Relu": plain(torch.relu),
    "Selu": _with(_selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Shrink": _with(_shrink, bias=0.0, lambd=0.5),
    "Sigmoid": plain(torch.sigmoid),
    "Softmax": _softmax(torch.softmax),
    "Softplus": plain(F.softplus),
    "Softsign": plain(F.softsign),
    "Swish": _with(_swish, alpha=1.0),
    "ThresholdedRelu": _with(_thresholded_relu, alpha=1.0),
}
