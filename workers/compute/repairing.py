"""What to change in a recipe so that its guard is met, in words. Knows options that techniques share, none of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.contracts.causes import Repair, StepDrop
from app.contracts.report import StepReport
from app.contracts.steps.base import StepSpec
from workers.compute.graph.model import Model
from workers.compute.graph.targets import first_and_last, is_table
from workers.compute.wording import shown

_FALLING = 0.01  # of the validation loss, from one validation to the next: less may be noise
_TOLD_TENSORS = 3
# Options that say how much a step takes away, and which way is gentler.
_GENTLER = {
    "sparsity": "lower",
    "ratio": "lower",
    "energy": "raise",
    "clusters": "raise",
    "keep": "raise",
    "block": "lower",
    "threshold": "lower",
}


@dataclass(frozen=True)
class Restoration:
    """Tensors that were put back together: what that scored and adds, and whether it meets the guard on `rows` rows."""

    tensors: list[str]
    metric: str
    score: float
    extra_bytes: int
    meets: bool
    rows: int


def restoring(found: Restoration, steps: Sequence[StepSpec], source: Model, changed: Collection[str]) -> Repair:
    """Say what putting tensors back is worth, and which option does it. `steps` begin with the one to blame."""
    names = ", ".join(f"`{shown(name)}`" for name in found.tensors[:_TOLD_TENSORS])
    more = f" and {len(found.tensors) - _TOLD_TENSORS} more" if len(found.tensors) > _TOLD_TENSORS else ""
    enough = "meets the guard" if found.meets else "comes closest, but does not meet the guard"
    ways = (_option(step, found.tensors, source, changed) for step in steps)
    way = next((told for told in ways if told), "no option leaves just that out; a gentler or longer recipe may do")
    return Repair(
        advice=(
            f"Leave out {names}{more}: with the upload's values {found.metric} is {found.score:.4f} on {found.rows:,} "
            f"validation rows, which {enough}, for {found.extra_bytes:,} bytes more. In the recipe: {way}."
        ),
        tensors=found.tensors,
        score=found.score,
        extra_bytes=found.extra_bytes,
        meets=found.meets,
    )


def _option(step: StepSpec, names: Sequence[str], source: Model, changed: Collection[str]) -> str | None:
    """Return the option of a step that leaves out these tensors, as few others as may be, and at most half of all."""
    size = {name: source.read(name).size for name in changed}
    limit = max(size[name] for name in names)
    given = step.model_dump()
    ways = {
        f"set `embeddings` of {step.technique} to false": {name for name in changed if is_table(source, name)}
        if given.get("embeddings")
        else set(),
        f"set `keep_first_last` of {step.technique} to true": {*changed} & first_and_last(source)
        if given.get("keep_first_last") is False
        else set(),
        f"set `min_size` of {step.technique} to {limit + 1}": {name for name in changed if size[name] <= limit}
        if "min_size" in given
        else set(),
    }
    fitting = {way: left for way, left in ways.items() if {*names} <= left and 2 * len(left) <= len(changed)}
    if not fitting:
        return None
    way = min(fitting, key=lambda way: len(fitting[way]))
    others = len(fitting[way]) - len(names)
    return f"{way}, which leaves out {others} more" if others else way


def training(reports: Sequence[StepReport], blamed: StepDrop, blamed_spec: StepSpec | None) -> list[Repair]:
    """Advise more training where the last one was still getting better, or any where the step to blame had none."""
    trained = next((step for step in reversed(reports) if step.curve), None)
    if trained is not None and (fall := _falling(trained)):
        told = f"validation loss was still falling when step {trained.index + 1} ({trained.technique}) ended"
        return [Repair(advice=f"Train longer: {told} ({fall[0]:.4g}, then {fall[1]:.4g}); raise its `epochs`.")]
    if trained is not None or blamed_spec is None or "epochs" not in type(blamed_spec).model_fields:
        return []
    told = f"Retrain: nothing was trained after step {blamed.index + 1} ({blamed.technique})"
    if blamed_spec.lowers:  # no step may follow it, and its own training is a mode
        return [Repair(advice=f"{told}; set its `mode` to qat, which trains what is stored.")]
    return [Repair(advice=f"{told}; raise its `epochs`, or add a step retrain or distill.")]


def _falling(step: StepReport) -> tuple[float, float] | None:
    losses = [point.validation_loss for point in step.curve if point.validation_loss is not None]
    if len(losses) > 1 and losses[-1] == min(losses) and losses[-2] - losses[-1] > _FALLING * abs(losses[-2]):
        return losses[-2], losses[-1]
    return None


def gentler(blamed: StepDrop, spec: StepSpec | None) -> list[Repair]:
    """Advise to ask less of the step to blame."""
    options = spec.model_dump() if spec is not None else {}
    known = {name: value for name, value in options.items() if name in _GENTLER and isinstance(value, int | float)}
    if not known:
        return []
    ways = " or ".join(f"{_GENTLER[name]} `{name}` ({value:g} now)" for name, value in known.items())
    return [Repair(advice=f"Ask less of step {blamed.index + 1} ({blamed.technique}): {ways}.")]
