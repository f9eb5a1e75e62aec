"""Small questions about a flat plan that rewrites ask: who makes a slot, who reads it, is it a known number."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from workers.compute.autograd.plan import Step


@dataclass(frozen=True)
class Flow:
    """Steps with their links. `wanted` slots leave the plan, so they must not be fused away."""

    steps: Sequence[Step]
    template: Sequence[Tensor | None]
    wanted: Collection[int]
    makers: dict[int, Step]
    readers: dict[int, list[Step]]

    def maker(self, slot: int, *op_types: str) -> Step | None:
        """Return the step that makes a slot if it is one of these operators."""
        step = self.makers.get(slot)
        return step if step is not None and step.node.op_type in op_types else None

    def sole_reader(self, slot: int, *op_types: str) -> Step | None:
        """Return the only reader of a slot that stays inside, if it is one of these operators."""
        found = self.readers.get(slot, [])
        if slot in self.wanted or len(found) != 1 or found[0].node.op_type not in op_types:
            return None
        return found[0]

    def inner(self, slot: int) -> bool:
        """Whether a slot is read once and does not leave the plan."""
        return slot not in self.wanted and len(self.readers.get(slot, [])) == 1

    def number(self, slot: int) -> float | None:
        """Return a constant of one element."""
        tensor = self.template[slot]
        return float(tensor.reshape(-1)[0]) if tensor is not None and tensor.numel() == 1 else None

    def is_near(self, slot: int, value: float) -> bool:
        """Whether a slot is this constant, to the precision that exporters write (float16 included)."""
        found = self.number(slot)
        return found is not None and abs(found - value) <= 1e-3 * abs(value)

    def other(self, step: Step, slot: int) -> int:
        """Return the input of a two-input step that is not `slot`."""
        return step.inputs[1] if step.inputs[0] == slot else step.inputs[0]


def flow_of(steps: Sequence[Step], template: Sequence[Tensor | None], wanted: Collection[int]) -> Flow:
    """Link the steps."""
    makers = {slot: step for step in steps for slot in step.outputs}
    readers: dict[int, list[Step]] = {}
    for step in steps:
        for slot in set(step.inputs):
            readers.setdefault(slot, []).append(step)
    return Flow(steps, template, wanted, makers, readers)


def replaced(flow: Flow, fused: dict[int, Step]) -> list[Step]:
    """Return the steps with those that make the slots of `fused` replaced; what nobody reads is pruned later."""
    return [next((fused[slot] for slot in step.outputs if slot in fused), step) for step in flow.steps]
