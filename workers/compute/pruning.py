"""Gives weights zeros that stay, at once or while they train. Knows no options and no recipe."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.errors import TechniqueNotApplicable
from workers.compute.autograd.dtypes import to_numpy
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.movement import Movement
from workers.compute.graph.constraints import Codebook, Constraint, with_zeros, zeros_of
from workers.compute.graph.model import Model
from workers.compute.graph.selection import Kept

# The ramp ends after this share of the steps, so that training can recover from its end; it climbs in few stairs,
# since each ranks all weights anew.
_RAMP, _STAIRS = 0.6, 10

Float = NDArray[np.floating]
Weights = Mapping[str, Float]
# Returns which weights stay, by tensor, from how much each matters (larger matters more) and the share that goes.
Choose = Callable[[Weights, float], Mapping[str, Kept]]


def largest(model: Model, targets: Collection[str], choose: Choose, sparsity: float) -> Mapping[str, Kept]:
    """Return which weights of a model stay by magnitude; promised zeros go first."""
    matters = {name: np.abs(model.read_floats(name)) for name in targets}
    return choose(_ranked(matters, model.constraints), sparsity)


def constrain(model: Model, masks: Mapping[str, Kept]) -> None:
    """Let the model keep these zeros, in place. A tensor without constraint and zeros stays free."""
    for name, kept in masks.items():
        if kept.all() and name not in model.constraints:
            continue
        value = model.read_floats(name)
        constraint = model.constraints[name] = with_zeros(model.constraints.get(name), value, kept)
        model.write(name, constraint.project(value).astype(model.read(name).dtype))


def zero_share(model: Model, targets: Collection[str]) -> float:
    """Return the share of these tensors' weights that are zero."""
    weights = [model.read(name) for name in targets]
    return sum(w.size - np.count_nonzero(w) for w in weights) / sum(w.size for w in weights)


@dataclass
class Ramp:
    """Raises the sparsity along end + (start - end)(1 - t)³ while a model trains (Zhu & Gupta, 2017).

    With `movement` weights go by their scores, and those that this ramp pruned may come back with a better one. Those
    of a codebook may not: of them nothing is left but their cluster, which is the one of zeros by then.
    """

    targets: Collection[str]
    choose: Choose
    start: float
    end: float
    movement: Movement | None = None
    before: Mapping[str, Constraint] = field(default_factory=dict)
    climbed: bool = False

    def __call__(self, step: int, total: int, executor: Executor) -> bool:
        """Prune anew at the first step of each stair; return whether more stairs are to come.

        Raises TechniqueNotApplicable when there are too few steps for any movement.
        """
        last = int(_RAMP * total)
        if step == 0:
            self._begin(executor)
        if step > last:
            return False
        names = [name for name in self.targets if name in executor.trained]
        if self.movement is not None:
            self._follow(self.movement, last)
        if step % max(1, last // _STAIRS) == 0 or step == last:
            self._climb((1 - step / last) ** 3 if last else 0.0, names, executor)
        if self.movement is not None and step < last:
            self.movement.watch(executor, names)
        return step < last

    def memory(self) -> dict[str, Tensor]:
        """Return whether the end was reached, and the scores; the constraints from before are the model's at first."""
        scores = {} if self.movement is None else self.movement.settled()
        return {"climbed": torch.tensor(self.climbed), **{f"score/{name}": value for name, value in scores.items()}}

    def recall(self, memory: Mapping[str, Tensor], at_start: Mapping[str, Constraint]) -> None:
        """Go on from `memory`."""
        self.before, self.climbed = at_start, bool(memory["climbed"])
        if self.movement is not None:
            scores = {name.removeprefix("score/"): value for name, value in memory.items() if name != "climbed"}
            self.movement.recall(scores)

    def finish(self, model: Model) -> None:
        """Climb what a training that diverged did not come to, from where it left the weights, in place.

        Raises TechniqueNotApplicable when movement would have had to choose.
        """
        if self.climbed or self.end <= self.start:
            return
        if self.movement is not None:
            msg = "training ended before movement could choose all weights that go; use a smaller learning_rate"
            raise TechniqueNotApplicable(msg)
        constrain(model, largest(model, self.targets, self.choose, self.end))

    def _begin(self, executor: Executor) -> None:
        """Forget an earlier training, such as a trial of a learning rate."""
        self.before, self.climbed = dict(executor.model.constraints), False
        if self.movement is not None:
            self.movement.forget()

    def _follow(self, movement: Movement, last: int) -> None:
        if last == 0:
            msg = (
                "movement is learned over steps of training; there is but one: set more epochs or a smaller batch_size"
            )
            raise TechniqueNotApplicable(msg)
        movement.settle()

    def _climb(self, left: float, names: Collection[str], executor: Executor) -> None:
        sparsity = self.end + (self.start - self.end) * left
        if sparsity <= self.start or not names:
            return
        shown = _shown(executor, names)
        bases = {name: found for name in names if (found := self._base(name, executor)) is not None}
        matters = {name: self._matters(name, value) for name, value in shown.items()}
        _set(executor, shown, bases, self.choose(_ranked(matters, bases), sparsity))
        self.climbed = left == 0

    def _matters(self, name: str, value: Float) -> Float:
        if self.movement is None:
            return np.abs(value)
        score = self.movement.scores.get(name)
        return np.zeros_like(value) if score is None else to_numpy(score).astype(np.float32)

    def _base(self, name: str, executor: Executor) -> Constraint | None:
        """Return the constraint that zeros are added to: without those of this ramp, where they may come back."""
        current = executor.model.constraints.get(name)
        return current if self.movement is None or isinstance(current, Codebook) else self.before.get(name)


@dataclass(frozen=True)
class Rounds:
    """Prunes by magnitude at the first step of each round of one training, to the sparsities `levels`."""

    targets: Collection[str]
    choose: Choose
    levels: Sequence[float]

    def __call__(self, step: int, total: int, executor: Executor) -> bool:
        """Prune at a round's first step; return whether another round is to come."""
        count = len(self.levels)
        due, before = (at * count // total for at in (step, step - 1))
        names = [name for name in self.targets if name in executor.trained]
        if due > before and names:
            shown = _shown(executor, names)
            matters, bases = {name: np.abs(value) for name, value in shown.items()}, dict(executor.model.constraints)
            _set(executor, shown, bases, self.choose(_ranked(matters, bases), self.levels[due]))
        return due < count - 1


def _shown(executor: Executor, names: Collection[str]) -> dict[str, Float]:
    return {name: to_numpy(executor.trained[name]()).astype(np.float32) for name in names}


def _set(executor: Executor, shown: Weights, bases: Mapping[str, Constraint], masks: Mapping[str, Kept]) -> None:
    """Add zeros to the constraints that were before."""
    for name, kept in masks.items():
        executor.set_constraint(name, with_zeros(bases.get(name), shown[name], kept))


def _ranked(matters: Weights, constraints: Mapping[str, Constraint]) -> Weights:
    """Return how much weights matter, promised zeros least of all."""
    return {
        name: np.where(zeros_of(constraints[name], value), -np.inf, value) if name in constraints else value
        for name, value in matters.items()
    }
