"""LSTM, GRU and RNN as the standard defines them: directions, lengths, peepholes, any activation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule

Activation = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]
# One time step: the projected input, the states before, the direction's parameters.
Cell = Callable[[Tensor, State, "Direction"], State]


@dataclass(frozen=True)
class Direction:
    """Parameters of one direction: recurrence (gates·hidden, hidden), its bias, peepholes, activations."""

    recurrence: Tensor
    bias: Tensor | None
    peepholes: Tensor | None
    activations: Sequence[Activation]


def _activation(name: str, alpha: float | None, beta: float | None) -> Activation:
    a, b = alpha, beta
    known: dict[str, Activation] = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "affine": lambda x: (1.0 if a is None else a) * x + (0.0 if b is None else b),
        "leakyrelu": lambda x: F.leaky_relu(x, 0.01 if a is None else a),
        "thresholdedrelu": lambda x: torch.where(x > (1.0 if a is None else a), x, torch.zeros_like(x)),
        "scaledtanh": lambda x: (1.0 if a is None else a) * torch.tanh((1.0 if b is None else b) * x),
        "hardsigmoid": lambda x: torch.clamp((0.2 if a is None else a) * x + (0.5 if b is None else b), 0, 1),
        "elu": lambda x: F.elu(x, 1.0 if a is None else a),
        "softsign": F.softsign,
        "softplus": F.softplus,
    }
    return known[name.lower()]


def _activations(node: Node, defaults: list[str], directions: int) -> list[list[Activation]]:
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in node.attributes.get("activations", [])]
    names = names or defaults * directions
    alphas, betas = list(node.attributes.get("activation_alpha", [])), list(node.attributes.get("activation_beta", []))
    made = [
        _activation(name, alphas[at] if at < len(alphas) else None, betas[at] if at < len(betas) else None)
        for at, name in enumerate(names)
    ]
    count = len(defaults)
    return [made[at * count : (at + 1) * count] for at in range(directions)]


def _lstm_cell(node: Node) -> Cell:
    couple, limit = bool(node.integer("input_forget")), node.attributes.get("clip")

    def step(projected: Tensor, state: State, direction: Direction) -> State:
        hidden, cell = state
        squash, inner, outer = direction.activations
        gates = projected + F.linear(hidden, direction.recurrence, direction.bias)
        enter, leave, forget, new = gates.chunk(4, -1)
        if direction.peepholes is not None:
            peep_in, peep_out, peep_forget = direction.peepholes.chunk(3, -1)
            enter, forget = enter + peep_in * cell, forget + peep_forget * cell
        enter = squash(_clipped(enter, limit))
        forget = 1 - enter if couple else squash(_clipped(forget, limit))
        cell = forget * cell + enter * inner(_clipped(new, limit))
        if direction.peepholes is not None:
            leave = leave + peep_out * cell
        return squash(_clipped(leave, limit)) * outer(cell), cell

    return step


def _gru_cell(node: Node) -> Cell:
    after, limit = bool(node.integer("linear_before_reset")), node.attributes.get("clip")

    def step(projected: Tensor, state: State, direction: Direction) -> State:
        (hidden,) = state
        squash, inner = direction.activations
        size = hidden.shape[-1]
        update_reset, new = direction.recurrence[: 2 * size], direction.recurrence[2 * size :]
        bias = direction.bias
        gates = projected[..., : 2 * size] + F.linear(hidden, update_reset, None if bias is None else bias[: 2 * size])
        update, reset = squash(_clipped(gates, limit)).chunk(2, -1)
        new_bias = None if bias is None else bias[2 * size :]
        recurrent = reset * F.linear(hidden, new, new_bias) if after else F.linear(reset * hidden, new, new_bias)
        candidate = inner(_clipped(projected[..., 2 * size :] + recurrent, limit))
        return ((1 - update) * candidate + update * hidden,)

    return step


def _rnn_cell(node: Node) -> Cell:
    limit = node.attributes.get("clip")

    def step(projected: Tensor, state: State, direction: Direction) -> State:
        gates = projected + F.linear(state[0], direction.recurrence, direction.bias)
        return (direction.activations[0](_clipped(gates, limit)),)

    return step


def _clipped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


def _unroll(cell: Cell, x: Tensor, state: State, direction: Direction, lengths: Tensor | None) -> tuple[Tensor, State]:
    """Run one direction over `x` (time, batch, gates·hidden); rows that have ended keep their state and output 0."""
    outputs = []
    for at, projected in enumerate(x.unbind(0)):
        after = cell(projected, state, direction)
        if lengths is None:
            state = after
            outputs.append(after[0])
            continue
        alive = (lengths > at).unsqueeze(-1)
        state = tuple(torch.where(alive, new, old) for new, old in zip(after, state, strict=True))
        outputs.append(torch.where(alive, after[0], torch.zeros_like(after[0])))
    return torch.stack(outputs), state


def _reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse time; each row only up to its length."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device).unsqueeze(-1)
    order = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return torch.gather(x, 0, order.unsqueeze(-1).expand(x.shape))


def _recurrent(make_cell: Callable[[Node], Cell], defaults: list[str], states: int) -> Rule:
    def rule(node: Node) -> Kernel:
        cell, directed = make_cell(node), node.text("direction", "forward")
        count = 2 if directed == "bidirectional" else 1
        activations, batch_first = _activations(node, defaults, count), bool(node.integer("layout"))

        def run(x: Tensor, weight: Tensor, recurrence: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
            bias, lengths, hidden, carry, peepholes = (*rest, None, None, None, None, None)[:5]
            x = x.transpose(0, 1) if batch_first else x
            size = recurrence.shape[-1]
            given = [hidden, carry][:states]
            given = [part.transpose(0, 1) if part is not None and batch_first else part for part in given]
            zeros = torch.zeros(count, x.shape[1], size, dtype=x.dtype, device=x.device)
            starts = [zeros if part is None else part for part in given]
            lengths = None if lengths is None else lengths.long()
            outputs, ends = [], []
            for at in range(count):
                backward = directed == "reverse" or at == 1
                w_bias, r_bias = (None, None) if bias is None else bias[at].chunk(2)
                projected = F.linear(_reverse(x, lengths) if backward else x, weight[at], w_bias)
                peep = None if peepholes is None else peepholes[at]
                direction = Direction(recurrence[at], r_bias, peep, activations[at])
                y, end = _unroll(cell, projected, tuple(part[at] for part in starts), direction, lengths)
                outputs.append(_reverse(y, lengths) if backward else y)
                ends.append(end)
            y, finals = torch.stack(outputs, 1), [torch.stack(parts) for parts in zip(*ends, strict=True)]
            if batch_first:
                y, finals = y.permute(2, 0, 1, 3), [final.transpose(0, 1) for final in finals]
            return (y, *finals)

        return run

    return rule


RULES: dict[str, Rule] = {
    "GRU": _recurrent(_gru_cell, ["Sigmoid", "Tanh"], 1),
    "LSTM": _recurrent(_lstm_cell, ["Sigmoid", "Tanh", "Tanh"], 2),
    "RNN": _recurrent(_rnn_cell, ["Tanh"], 1),
}
