"""What is kept of a training, so that another process goes on to the same bits. Knows no file and no loop."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from app.contracts.report import CurvePoint
from workers.compute.autograd.dtypes import from_numpy, to_numpy
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.operators.randomness import RULES
from workers.compute.graph.constraints import Constraint
from workers.compute.graph.model import Model
from workers.compute.graph.promise_records import put_together, taken_apart

Array = NDArray[np.generic]
# Types of numbers that PyTorch shows to NumPy without a copy.
_SHOWN = frozenset({torch.float32, torch.float64, torch.float16, torch.int32, torch.int64, torch.uint8, torch.bool})


@dataclass(frozen=True)
class Kept:
    """Facts that JSON can hold, and arrays by name."""

    facts: dict[str, Any]
    arrays: dict[str, Array]

    def part(self, prefix: str) -> dict[str, Array]:
        """Return the arrays whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}


class Keeper(Protocol):
    """Keeps the trainings of one step, which are told apart by their order."""

    def begin(self) -> Kept | None:
        """Return what an earlier process kept of the training that begins now: its middle, or its end."""

    def due(self) -> bool:
        """Whether what was reached should be kept now."""

    def keep(self, reached: Kept) -> None:
        """Keep the middle of the training; may end the process when it was told to stop."""

    def end(self, reached: Kept) -> None:
        """Hear that the training is over, and what it left."""


class NoKeeper:
    """Keeps nothing."""

    def begin(self) -> Kept | None:
        """Know of nothing."""
        return None

    def due(self) -> bool:
        """Ask for nothing."""
        return False

    def keep(self, reached: Kept) -> None:
        """Forget it."""

    def end(self, reached: Kept) -> None:
        """Forget it."""


NOTHING = NoKeeper()


@runtime_checkable
class Remembering(Protocol):
    """What changes constraints while a model trains, if it remembers more than the executor shows."""

    def memory(self) -> dict[str, Tensor]:
        """Return all that the next step depends on."""

    def recall(self, memory: Mapping[str, Tensor], at_start: Mapping[str, Constraint]) -> None:
        """Go on from there; the constraints are those that the training began with."""


@dataclass
class Standing:
    """Where a training stands between two steps, beside its weights: `done` steps, of which `losses` are untold.

    `stale` counts validations without a better state than `best`, which has `best_rank` and keeps the constraints of
    `best_revision`. `note` tells how the learning `rate` was found, `spent_s` how long it took so far.
    """

    rate: float
    note: str | None = None
    done: int = 0
    losses: list[float] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_rank: tuple[float, ...] = ()
    best_revision: int = -1
    stale: int = 0
    spent_s: float = 0.0


def draws_by_seed(model: Model) -> bool:
    """Whether nodes draw from generators of their own, whose state nothing here keeps."""
    return any(node.op_type in RULES and "seed" in node.attributes for node in model.ir.graph.all_nodes())


def middle(
    standing: Standing, executor: Executor, optimizer: Optimizer, guide: nn.Module | None, on_step: object
) -> Kept:
    """Return all that the steps after this one depend on, in arrays that those steps will change."""
    best = standing.best if standing.best_revision == executor.revision else {}  # else nobody goes back to it
    promises, arrays = taken_apart(executor.model.constraints)
    facts = {
        "finished": False,
        "rate": standing.rate,
        "note": standing.note,
        "done": standing.done,
        "losses": [*standing.losses],
        "curve": _told(standing.curve),
        "best_rank": list(standing.best_rank),
        "best_revision": standing.best_revision,
        "stale": standing.stale,
        "spent_s": standing.spent_s,
        "revision": executor.revision,
        "fixed_statistics": executor.fixed_statistics,
        "promises": promises,
    }
    state = {f"{index}/{name}": value for index, name, value in _moments(optimizer)}
    parts: dict[str, Mapping[str, Tensor]] = {
        "weights/": executor.state_dict(),
        "best/": best,
        "guide/": {} if guide is None else guide.state_dict(),
        "optimizer/": state,
        "memory/": on_step.memory() if isinstance(on_step, Remembering) else {},
        "random/": _random(executor.device),
    }
    arrays = {f"promise/{name}": array for name, array in arrays.items()}
    return Kept(
        facts, arrays | {prefix + name: shown(x) for prefix, found in parts.items() for name, x in found.items()}
    )


def go_on(kept: Kept, executor: Executor, guide: nn.Module | None, on_step: object) -> Standing:
    """Bring a training that has just begun to where the kept one was; `gather` does so for its optimizer."""
    facts = kept.facts
    if isinstance(on_step, Remembering):
        on_step.recall(_tensors(kept.part("memory/")), dict(executor.model.constraints))
    _promise(executor, put_together(facts["promises"], kept.part("promise/")))
    executor.load_state_dict(_tensors(kept.part("weights/")))
    executor.revision, executor.fixed_statistics = facts["revision"], facts["fixed_statistics"]
    if guide is not None:
        guide.load_state_dict(_tensors(kept.part("guide/")))
    return Standing(
        rate=facts["rate"],
        note=facts["note"],
        done=facts["done"],
        losses=facts["losses"],
        curve=_curve(facts["curve"]),
        best={name: value.to(executor.device) for name, value in _tensors(kept.part("best/")).items()},
        best_rank=tuple(facts["best_rank"]),
        best_revision=facts["best_revision"],
        stale=facts["stale"],
        spent_s=facts["spent_s"],
    )


def gather(optimizer: Optimizer, kept: Kept, device: torch.device) -> None:
    """Give a new optimizer what the kept one had gathered, and put the random numbers to where they were."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _tensors(kept.part("optimizer/")).items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    found = _tensors(kept.part("random/"))
    torch.set_rng_state(found["cpu"])
    if device.type == "cuda" and "cuda" in found:
        torch.cuda.set_rng_state(found["cuda"], device)


def result(standing: Standing, executor: Executor, on_step: object) -> Kept:
    """Return what a training that is over left in its model; arrays are shared with it, not copied."""
    model = executor.model
    promises, arrays = taken_apart(model.constraints)
    names = list(executor.written)
    weights = {f"weights/{place}": model.read(name) for place, name in enumerate(names)}
    memory = on_step.memory() if isinstance(on_step, Remembering) else {}
    facts = {
        "finished": True,
        "note": standing.note,
        "curve": _told(standing.curve),
        "promises": promises,
        "names": names,
    }
    others = {f"memory/{name}": shown(x) for name, x in memory.items()}
    return Kept(facts, {**{f"promise/{name}": array for name, array in arrays.items()}, **weights, **others})


def take_over(kept: Kept, model: Model, on_step: object) -> list[CurvePoint]:
    """Give a model, in place, what a training that is over left; return the curve."""
    if isinstance(on_step, Remembering):
        on_step.recall(_tensors(kept.part("memory/")), dict(model.constraints))
    weights = kept.part("weights/")
    for place, name in enumerate(kept.facts["names"]):
        model.write(name, weights[str(place)])
    model.constraints = put_together(kept.facts["promises"], kept.part("promise/"))
    return _curve(kept.facts["curve"])


def shown(tensor: Tensor) -> Array:
    """Return a tensor's numbers, as they lie in memory where they can be seen there."""
    if tensor.dtype not in _SHOWN:
        return to_numpy(tensor)
    array: Array = tensor.detach().cpu().contiguous().numpy()
    return array


def _promise(executor: Executor, constraints: Mapping[str, Constraint]) -> None:
    """Give every tensor the constraint that it had, in the order in which they were made."""
    model = executor.model
    for name in executor.trained:
        if name in constraints or name in model.constraints:
            executor.set_constraint(name, constraints.get(name))
    model.constraints = {name: model.constraints[name] for name in constraints}


def _moments(optimizer: Optimizer) -> Iterator[tuple[int, str, Tensor]]:
    for index, found in optimizer.state_dict()["state"].items():
        yield from ((index, name, value) for name, value in found.items())


def _random(device: torch.device) -> dict[str, Tensor]:
    found = {"cpu": torch.get_rng_state()}
    return found | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _tensors(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: from_numpy(array) for name, array in arrays.items()}


def _told(curve: list[CurvePoint]) -> list[Any]:
    return [point.model_dump(mode="json") for point in curve]


def _curve(told: list[Any]) -> list[CurvePoint]:
    return [CurvePoint.model_validate(point) for point in told]
