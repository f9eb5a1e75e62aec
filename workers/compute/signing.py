"""Gives tensors one magnitude per channel and signs, at once or while they train. Knows no options and no recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from workers.compute.autograd.executor import Executor
from workers.compute.graph.constraints import Signs, behind, zeros_of
from workers.compute.graph.distances import snr_db
from workers.compute.graph.model import Model
from workers.compute.graph.readers import Reader, output_axis

# Tensors change in this many stairs, over this share of the training; the rest trains all of them.
_STAIRS, _RAMP = 8, 0.6


def promises(
    model: Model, targets: Mapping[str, Reader], threshold: float | None, *, learned: bool
) -> dict[str, Signs]:
    """Return what is to be promised about each tensor; zeros that an earlier step promised stay zeros."""
    found = {}
    for name, reader in targets.items():
        value, before = model.read_floats(name), model.constraints.get(name)
        kept = ~zeros_of(before, value)
        found[name] = Signs(output_axis(reader), kept, threshold, learned, behind(before, value))
    return found


def constrain(model: Model, given: Mapping[str, Signs]) -> None:
    """Let the model show and keep the values, in place."""
    for name, promise in given.items():
        kind = model.read(name).dtype
        shown = promise.project(promise.latent if promise.latent is not None else model.read_floats(name))
        model.constraints[name] = promise
        model.write(name, shown.astype(kind))


def finish(model: Model, given: Mapping[str, Signs]) -> None:
    """Do what a training that diverged did not come to, from where it left the weights."""
    left = {name: promise for name, promise in given.items() if not _same_kind(model, name, promise)}
    latent = {name: behind(model.constraints.get(name), model.read_floats(name)) for name in left}
    constrain(model, {name: replace(promise, latent=latent[name]) for name, promise in left.items()})


def _same_kind(model: Model, name: str, promise: Signs) -> bool:
    found = model.constraints.get(name)
    return isinstance(found, Signs) and found.threshold == promise.threshold


def error_db(given: Mapping[str, Signs]) -> float:
    """Return how far the values shown are from those behind them: the signal-to-noise ratio in decibels."""
    known = ((promise, promise.latent) for promise in given.values() if promise.latent is not None)
    return snr_db((latent, promise.project(latent)) for promise, latent in known)


@dataclass(frozen=True)
class Growing:
    """Constrains a growing share of the tensors while a model trains, those that lose least first."""

    given: Mapping[str, Signs]

    def __call__(self, step: int, total: int, executor: Executor) -> bool:
        """Add the tensors of this stair; return whether more are to come."""
        end = max(1, int(_RAMP * total))
        every = max(1, end // _STAIRS)
        if step > end or (step % every and step != end):
            return step < end
        order = sorted(self.given, key=lambda name: (-error_db({name: self.given[name]}), name))
        share = min(1.0, (step + every) / end)
        for name in order[: round(share * len(order))]:
            if name in executor.trained and not _same_kind(executor.model, name, self.given[name]):
                executor.set_constraint(name, self.given[name])
        return step < end
