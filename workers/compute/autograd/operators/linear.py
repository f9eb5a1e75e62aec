"""Matrix products."""

import torch
from torch import Tensor

from workers.compute.autograd.operators.base import Kernel, Node, Rule, plain


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply as numpy does; a matrix on the right is applied to all rows at once."""
    return torch.matmul(a, b)


def _gemm(node: Node) -> Kernel:
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    flip_a, flip_b = node.integer("transA"), node.integer("transB")

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = a.T if flip_a else a, b.T if flip_b else b
        if a.is_floating_point() and c is not None and beta:
            return torch.addmm(c, a, b, beta=beta, alpha=alpha)
        product = a @ b
        product = product if alpha == 1 else (product * alpha).to(product.dtype)
        return product if c is None or not beta else product + (c * beta).to(c.dtype)

    return run


def _einsum(node: Node) -> Kernel:
    equation = node.text("equation").replace(" ", "")
    return lambda *inputs: torch.einsum(equation, *inputs)


RULES: dict[str, Rule] = {
    "Det": plain(torch.linalg.det),
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": plain(matmul),
}
