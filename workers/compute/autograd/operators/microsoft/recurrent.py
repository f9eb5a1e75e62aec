"""The LSTM whose weights are bytes and whose inputs and states are rounded anew at each step. Forward only."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.compute.autograd.operators.base import Kernel, Node, Rule
from workers.compute.autograd.operators.microsoft.integers import dynamic_matmul

_USUAL = ("sigmoid", "tanh", "tanh")
# Positions of the lengths and the peepholes among the inputs.
_LENGTHS, _PEEPHOLES = 4, 7


@dataclass(frozen=True)
class _Weight:
    """A direction's weight (inputs, 4 · hidden) as bytes, its scales and zero points."""

    values: Tensor
    scale: Tensor
    zero: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return dynamic_matmul(x, self.values, self.scale, self.zero)


def _lstm(node: Node) -> Kernel:
    names = [name.decode() if isinstance(name, bytes) else name for name in node.attributes.get("activations", [])]
    usual = all(name.lower() == _USUAL[at % 3] for at, name in enumerate(names))
    changed = [name for name in ("clip", "input_forget") if node.attributes.get(name)]
    if not usual or changed or node.has(_LENGTHS) or node.has(_PEEPHOLES):
        raise node.refuse("other activations, clip, coupled gates, sequence lengths or peepholes")
    directed = node.text("direction", "forward")

    def run(x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        bias, _, hidden, cell, _, *scales = rest
        w_scale, w_zero, r_scale, r_zero = (part for part in scales if part is not None)
        outputs, ends, size = [], [], r.shape[1]
        for at in range(len(w)):
            backward = directed == "reverse" or at == 1
            start = tuple(x.new_zeros(x.shape[1], size) if part is None else part[at] for part in (hidden, cell))
            into = _Weight(w[at], w_scale[at], w_zero[at])
            within = _Weight(r[at], r_scale[at], r_zero[at])
            gates = into(x.flip(0) if backward else x)
            gates = gates if bias is None else gates + bias[at].reshape(2, -1).sum(0)
            y, end = _unroll(gates, within, (start[0], start[1]))
            outputs.append(y.flip(0) if backward else y)
            ends.append(end)
        return torch.stack(outputs, 1), torch.stack([end[0] for end in ends]), torch.stack([end[1] for end in ends])

    return run


def _unroll(gates: Tensor, recur: _Weight, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    hidden, cell = state
    outputs = []
    for projected in gates.unbind(0):
        enter, leave, forget, new = (projected + recur(hidden)).chunk(4, -1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        outputs.append(hidden)
    return torch.stack(outputs), (hidden, cell)


RULES: dict[str, Rule] = {"DynamicQuantizeLSTM": _lstm}
