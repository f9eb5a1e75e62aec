"""A graph as a flat list of kernels over numbered slots. Knows no training and no parameters."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from app.errors import RuntimeRefused
from workers.compute.autograd.operators.base import Kernel, Node

# Slot 0 is every absent optional input; it always holds None.
ABSENT = 0
# Their outputs are not a function of their inputs.
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


@dataclass(frozen=True)
class Step:
    """One kernel: reads the input slots, fills the output slots, then lets go of the slots in `release`."""

    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    node: Node
    release: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Steps in order, with the constants at their slots and the slots by value name."""

    steps: tuple[Step, ...]
    template: tuple[Tensor | None, ...]
    inputs: Mapping[str, int]
    weights: Mapping[str, int]
    names: Mapping[str, int]
    outputs: tuple[str, ...] = field(default=())


def prune(steps: Sequence[Step], wanted: Collection[int]) -> list[Step]:
    """Return the steps that the wanted slots need, in order."""
    needed, kept = set(wanted), []
    for step in reversed(steps):
        if needed.intersection(step.outputs):
            needed.update(step.inputs)
            kept.append(step)
    return kept[::-1]


def is_random(step: Step) -> bool:
    """Whether a step draws random numbers, itself or in the body of a loop or a branch."""
    bodies = [getattr(value, "steps", ()) for value in step.node.attributes.values()]
    return step.node.op_type in _RANDOM or any(is_random(inner) for body in bodies for inner in body)


def with_releases(steps: Sequence[Step], wanted: Collection[int], given: Collection[int] = ()) -> tuple[Step, ...]:
    """Return the steps, each freeing the slots that nobody reads after it: those computed, and those `given` to a run.

    What a run is given may exist for that run alone: an input in another type, a weight with its mask applied.
    """
    computed = {slot for step in steps for slot in step.outputs}.union(given)
    seen, finished = set(wanted), []
    for step in reversed(steps):
        touched = dict.fromkeys((*step.inputs, *step.outputs))
        last = tuple(slot for slot in touched if slot in computed and slot not in seen)
        seen.update(last)
        finished.append(Step(step.kernel, step.inputs, step.outputs, step.node, last))
    return tuple(finished[::-1])


def run(steps: Sequence[Step], values: list[Tensor | None]) -> None:
    """Run the steps in place over `values`.

    Raises RuntimeRefused naming the node that the inputs do not fit, torch.OutOfMemoryError where a device is full.
    """
    step = None
    try:
        for step in steps:
            result = step.kernel(*[values[slot] for slot in step.inputs])
            if isinstance(result, tuple):
                for slot, value in zip(step.outputs, result, strict=False):
                    values[slot] = value
            else:
                values[step.outputs[0]] = result
            # The last result must not outlive its slot either.
            del result
            for slot in step.release:
                values[slot] = None
    except torch.OutOfMemoryError:  # a RuntimeError, but not for want of fitting inputs
        raise
    except (RuntimeError, IndexError, ValueError, TypeError) as fault:
        raise _refusal(step) from fault


def _refusal(step: Step | None) -> RuntimeRefused:
    node = "the graph" if step is None else f"node {step.node.name or '(unnamed)'} ({step.node.op_type})"
    return RuntimeRefused(f"{node} cannot be computed with these inputs; check their shapes, types and index ranges")
