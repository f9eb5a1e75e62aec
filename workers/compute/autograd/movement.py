"""Which weights move towards zero while a model trains (Sanh et al., 2020). Knows no technique."""

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from workers.compute.autograd.executor import Executor

# The most that the gradients of one step may be together, as a norm, so that no odd batch decides alone.
_CLIP = 1.0


class Movement:
    """The scores S = -Σ w·∂L/∂w over the steps watched, by tensor, in its shape: least moves to zero fastest.

    The gradient is that of the weight as the graph sees it, and w the weight behind it: a pruned weight goes on
    scoring with the value that it had, straight-through, and may come back.
    """

    def __init__(self) -> None:
        """Begin without scores."""
        self.scores: dict[str, Tensor] = {}
        self._products: dict[str, Tensor] = {}
        self._squares: list[Tensor] = []
        self._hooks: list[RemovableHandle] = []

    def watch(self, executor: Executor, names: Iterable[str]) -> None:
        """Add what the step before told to the scores, and watch these weights in the next one."""
        self.settle()
        for name in names:
            self._hooks.append(executor.trained[name].register_forward_hook(partial(self._seen, name)))

    def settle(self) -> None:
        """Add what the last step told to the scores, and watch no more."""
        for hook in self._hooks:
            hook.remove()
        if self._squares:
            share = _CLIP / torch.stack(self._squares).sum().sqrt().clamp(min=_CLIP)
            for name, product in self._products.items():
                before = self.scores.get(name, torch.zeros_like(product)).to(product.device)
                self.scores[name] = before - share * product
        self._products, self._squares, self._hooks = {}, [], []

    def settled(self) -> dict[str, Tensor]:
        """Return the scores, those of the last step included."""
        self.settle()
        return self.scores

    def recall(self, scores: Mapping[str, Tensor]) -> None:
        """Go on from these scores."""
        self.forget()
        self.scores = dict(scores)

    def forget(self) -> None:
        """Begin again without scores."""
        self.settle()
        self.scores = {}

    def _seen(self, name: str, weight: torch.nn.Module, _inputs: object, shown: Tensor) -> Tensor | None:
        if not (torch.is_grad_enabled() and shown.requires_grad):
            return None
        watched = shown.view_as(shown)
        behind: Tensor = getattr(weight, "value", shown)
        watched.register_hook(partial(self._told, name, behind.detach()))  # type: ignore[no-untyped-call] # torch leaves it untyped
        return watched

    def _told(self, name: str, behind: Tensor, gradient: Tensor) -> None:
        self._products[name] = behind * gradient
        self._squares.append(gradient.square().sum())
