"""Trades time for memory: keeps activations at few places of a plan and computes the others again on the way back.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016): √n segments of n steps. Knows no parameters.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from workers.compute.autograd.plan import ABSENT, Plan, Step, is_random, run

# Makes the context in which a segment is computed again: what else the first time depended on.
Again = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Segment:
    """Consecutive steps: the slots they read from before and leave for later, and whether they are computed again.

    `statistics` are the slots of tensors that the steps change in place, as batch normalization does.
    """

    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    statistics: tuple[int, ...]
    again: bool


def segments_of(plan: Plan, wanted: Collection[int], statistics: Collection[int]) -> tuple[Segment, ...]:
    """Cut a plan into about √n segments where few values are alive, in a transformer between its layers.

    Random steps stand alone and run once, since their generators cannot be wound back; the last segment is needed
    right away.
    """
    steps = plan.steps
    bounds = sorted({0, len(steps), *_cuts(steps), *_around_random(steps)})
    pieces = [steps[begin:end] for begin, end in itertools.pairwise(bounds)]
    read_later: set[int] = set(wanted)
    found: list[Segment] = []
    for piece in reversed(pieces):
        made = {slot for step in piece for slot in step.outputs}
        read = dict.fromkeys(slot for step in piece for slot in step.inputs)
        inputs = tuple(slot for slot in read if slot not in {*made, ABSENT} and plan.template[slot] is None)
        outputs = tuple(slot for slot in dict.fromkeys(s for step in piece for s in step.outputs) if slot in read_later)
        own = tuple(slot for slot in read if slot in statistics)
        found.append(Segment(piece, inputs, outputs, own, bool(found) and not any(map(is_random, piece))))
        read_later.update(inputs)
    return tuple(found[::-1])


def _around_random(steps: Sequence[Step]) -> list[int]:
    places = [at for at, step in enumerate(steps) if is_random(step)]
    return [*places, *(at + 1 for at in places)]


def _cuts(steps: Sequence[Step]) -> list[int]:
    """Return where to cut: near equal distances, at the place that the fewest computed values cross."""
    count = max(1, round(math.sqrt(len(steps))))
    alive, reach = _crossing(steps), len(steps) / count
    cuts = []
    for at in range(1, count):
        ideal = at * reach
        near = range(math.ceil(ideal - reach / 2), math.floor(ideal + reach / 2) + 1)
        cuts.append(min(near, key=lambda place: (alive[place], abs(place - ideal))))
    return cuts


def _crossing(steps: Sequence[Step]) -> list[int]:
    """Return, for each place between steps, how many computed values are read on both sides of it."""
    made = {slot: at for at, step in enumerate(steps) for slot in step.outputs}
    last = {slot: at for at, step in enumerate(steps) for slot in step.inputs if slot in made}
    change = [0] * (len(steps) + 2)
    for slot, end in last.items():
        change[made[slot] + 1] += 1
        change[end + 1] -= 1
    alive, total = [], 0
    for step_change in change:
        total += step_change
        alive.append(total)
    return alive


def run_segments(plan: Plan, segments: Sequence[Segment], values: list[Tensor | None], again: Again) -> None:
    """Run a plan in place over `values`, keeping for the gradient only what crosses its segments.

    Gradients are bit for bit those of `run`. Raises what it raises.
    """
    for segment in segments:
        given = [values[slot] for slot in segment.inputs]
        compute = _computation(plan, segment, again)
        if segment.again:
            # The random steps are left out, so there is no generator to wind back.
            found = checkpoint(compute, *given, use_reentrant=False, preserve_rng_state=False)
        else:
            found = compute(*given)
        for slot, value in zip(segment.outputs, found, strict=True):
            values[slot] = value
        for step in segment.steps:
            for slot in step.release:
                values[slot] = None


def _computation(plan: Plan, segment: Segment, again: Again) -> Callable[..., tuple[Tensor | None, ...]]:
    """Return a segment as a function that may be called again: then running statistics start from where they were."""
    before = {slot: _copy(plan.template[slot]) for slot in segment.statistics} if segment.again else {}
    calls = 0

    def compute(*given: Tensor | None) -> tuple[Tensor | None, ...]:
        nonlocal calls
        values = list(plan.template)
        for slot, value in zip(segment.inputs, given, strict=True):
            values[slot] = value
        if calls:
            for slot, statistic in before.items():
                values[slot] = _copy(statistic)
        calls += 1
        with again() if calls > 1 else nullcontext():
            run(segment.steps, values)
        return tuple(values[slot] for slot in segment.outputs)

    return compute


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


@dataclass
class Kept:
    """What a forward pass keeps for the gradient: the bytes of each storage once. `known` storages do not count."""

    known: frozenset[int]
    storages: dict[int, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes kept so far."""
        return sum(self.storages.values())

    def keep(self, tensor: Tensor) -> Tensor:
        """Count a tensor that autograd saves."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor


@contextmanager
def counted(known: Sequence[Tensor]) -> Iterator[Kept]:
    """Count the bytes that autograd saves inside, without the tensors that exist anyway."""
    kept = Kept(frozenset(tensor.untyped_storage().data_ptr() for tensor in known))
    with saved_tensors_hooks(kept.keep, lambda tensor: tensor):
        yield kept
