"""Operators that are several standard ones in a row: products and convolutions with activations, the GELU family."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators import activations, convolution, elementwise, linear
from workers.compute.autograd.operators.base import Kernel, Node, Rule, plain

# Newest opset whose softmax, clip and products these rules reuse.
OPSET = 20
_FUSABLE = {name: table[name] for table in (activations.RULES, elementwise.RULES) for name in table}
# The attributes that `activation_params` of FusedConv lists, in order.
_PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max")}
_GREEK = ("alpha", "beta", "gamma")


def _oriented(x: Tensor, *, flip: bool, batch_last: bool) -> Tensor:
    """Apply FusedMatMul's two transpositions: of the matrix, and of the first axis past the batch axes."""
    if x.dim() < 2:  # noqa: PLR2004 - a vector has nothing to transpose
        return x
    if batch_last:
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if flip else x


def _fused_matmul(node: Node) -> Kernel:
    alpha = node.number("alpha", 1.0)
    flip_a, flip_b = bool(node.integer("transA")), bool(node.integer("transB"))
    batch_a, batch_b = bool(node.integer("transBatchA")), bool(node.integer("transBatchB"))

    def run(a: Tensor, b: Tensor) -> Tensor:
        left, right = _oriented(a, flip=flip_a, batch_last=batch_a), _oriented(b, flip=flip_b, batch_last=batch_b)
        product = torch.matmul(left, right)
        return product if alpha == 1 else product * alpha

    return run


def _activation(node: Node, given: dict[str, float]) -> Kernel:
    """Return the activation that a fused node names, with its parameters; identity when it names none."""
    name = node.text("activation")
    if not name:
        return lambda x: x
    if name == "Clip":
        return lambda x: x.clamp(given.get("min"), given.get("max"))
    if name not in _FUSABLE:
        raise node.refuse(f"activation {name}")
    return _FUSABLE[name](Node(op_type=name, opset=OPSET, attributes=given, precision=node.precision))


def _fused_conv(node: Node) -> Kernel:
    kernel = convolution.RULES["Conv"](node)
    names = _PARAMETERS.get(node.text("activation"), ())
    activate = _activation(node, dict(zip(names, node.attributes.get("activation_params", []), strict=False)))

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        summed = kernel(x, weight, bias)
        result: Tensor = activate(summed if added is None else summed + added)
        return result

    return run


def _fused_gemm(node: Node) -> Kernel:
    kernel = linear.RULES["Gemm"](node)
    names = [name for name in _GREEK if f"activation_{name}" in node.attributes]
    activate = _activation(node, {name: node.number(f"activation_{name}") for name in names})
    return lambda *inputs: activate(kernel(*inputs))


def _fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


def _quick_gelu(node: Node) -> Kernel:
    return activations.RULES["Swish"](
        replace(node, attributes={"alpha": node.number("alpha", 1.702)})  # Hendrycks & Gimpel, 2016
    )


RULES: dict[str, Rule] = {
    "BiasGelu": plain(lambda x, bias: F.gelu(x + bias)),
    "FastGelu": plain(_fast_gelu),
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": plain(F.gelu),
    "QuickGelu": _quick_gelu,
    "TransposeMatMul": _fused_matmul,
}
