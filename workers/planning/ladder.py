"""The ladder: recipes from careful to bold, made of what the survey found. Knows no data set and no measurement.

Each rung is a shape (what is left out) and a number format. What a rung trains for is set by the round, so that the
same rung can be tried for a short and then for a long time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.contracts.goal import DeviceProfile, Goal
from app.contracts.job import TaskName
from app.contracts.recipe import Recipe
from app.contracts.survey import Survey

Step = Mapping[str, object]
_UNTRAINED = {"epochs": 0}
# Found on the text encoder and the image networks of docs/results.md, and none of it per data set.
_NARROW_NEURONS, _NARROW_HEADS, _TABLE_RANK = 0.75, 0.5, 0.334
_TEXT_RATE, _TERNARY_RATE = 0.0005, 0.0003
_CLUSTERS, _MANY_CLUSTERS, _SHARED_FROM = 16, 64, 256
_SPARSITIES = (0.8, 0.9)
_HALF_CUT = 0.5
_CUTS = (0.25, _HALF_CUT, 0.75)
# What a device calculates with: integers, of 7 bits where a processor may have no dot product that keeps all 8 from
# saturating; a GPU's runtime has no kernels for dynamic integers, so that there weights are halved in the file alone.
_LOW: dict[DeviceProfile, Step] = {
    "cpu-server": {"technique": "quantize_int8"},
    "cpu-edge": {"technique": "quantize_int8", "reduce_range": True},
    "mobile": {"technique": "quantize_int8"},
    "gpu": {"technique": "quantize_fp16"},
}
_HALF = "half precision"
_LOW_NAMES: dict[DeviceProfile, str] = {"gpu": _HALF}
_BITS = {"int8": 8.0, _HALF: 16.0}


@dataclass(frozen=True)
class Rung:
    """A recipe without the length of its training.

    `macs` and `weights` are the shares that are roughly left of the original's; `bits` of a weight in the file.
    `trained` are the steps that train, in order, without `epochs`; `before` and `after` are the steps around them.
    """

    name: str
    macs: float
    weights: float
    bits: float
    before: tuple[Step, ...] = ()
    trained: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()

    def lowered(self, device: DeviceProfile) -> bool:
        """Whether it brings the result into the number format that the device calculates with."""
        return _LOW[device] in self.after

    def recipe(self, epochs: float) -> Recipe:
        """Return the recipe whose every training step takes so many epochs."""
        patience = max(3, round(epochs))
        middle = [{**step, "epochs": epochs, "patience": patience} for step in self.trained]
        steps = [*self.before, *middle, *self.after]
        return Recipe.model_validate({"steps": steps} if steps else {"steps": [], "pack": {}})


def rungs(survey: Survey, goal: Goal, task: TaskName) -> list[Rung]:
    """Return the rungs for a goal, from careful to bold; the first few need no training and always work."""
    low = _low_name(goal)
    quick = [Rung("stored smaller", 1.0, 1.0, 30.0), Rung(low, 1.0, 1.0, _BITS[low], after=(_LOW[goal.device],))]
    if goal.minimize != "latency" and low != _HALF:
        quick.insert(1, Rung(_HALF, 1.0, 1.0, _BITS[_HALF], after=({"technique": "quantize_fp16"},)))
    if not survey.rows:
        return quick
    encoder = bool(survey.heads or survey.tables)
    # A stack of convolutions has small layers, few of which can be spared: first comes what leaves them all in place.
    careful = () if survey.layers > 1 and encoder else _networks(survey, goal, task)
    bold = _stacks(survey, goal, task) if survey.layers > 1 else ()
    return [*quick, *careful, *bold]


def lowering(goal: Goal) -> Recipe:
    """Return the recipe that does nothing but bring a model into the number format of the goal's device."""
    return Recipe.model_validate({"steps": [_LOW[goal.device]]})


def narrowing() -> Recipe:
    """Return the recipe that does nothing but make a network as narrow as any rung does."""
    return Recipe.model_validate({"steps": [_cut(_CUTS[-1])]})


def narrowest() -> float:
    """Return the share of the multiplications that roughly stays after that."""
    return _left(_CUTS[-1])


def _cut(ratio: float) -> Step:
    return {"technique": "prune_neurons", "ratio": ratio, **_UNTRAINED}


def _left(ratio: float) -> float:
    return (1 - ratio) ** 2


def _low_name(goal: Goal) -> str:
    """Return the number format that the goal's device calculates with, in words."""
    return _LOW_NAMES.get(goal.device, "int8")


def _distilled(survey: Survey, task: TaskName, rate: float | None) -> Step:
    """Return the step that teaches a student; without labels, by the teacher alone."""
    labels: Step = {} if survey.labelled and task != "match" else {"alpha": 0.0}
    return {"technique": "distill", **labels, **({"learning_rate": rate} if rate else {})}


def _stacks(survey: Survey, goal: Goal, task: TaskName) -> Iterator[Rung]:
    """Yield rungs for stacks of layers, such as text encoders: fewer layers, then narrower ones, then fewer bits."""
    half = -(-survey.layers // 2)
    rate = _TEXT_RATE if survey.tables else None
    teach = _distilled(survey, task, rate)
    ternary: Step = {"technique": "ternarize", "learning_rate": _TERNARY_RATE}
    low, lowered = _low_name(goal), (_LOW[goal.device],)
    fewer = [keep for keep in dict.fromkeys((half, 2, 1)) if keep <= half]
    narrows = survey.neurons + survey.heads > 0
    counts = dict.fromkeys([(half, False), *((keep, narrows) for keep in fewer)])
    for keep, narrow in counts:
        before: tuple[Step, ...] = tuple(_shape(survey, keep, narrow=narrow))
        share = keep / survey.layers * (0.35 if narrow else 1.0)
        noun = f"{keep} layer" if keep == 1 else f"{keep} layers"
        name = f"{noun}, narrower" if narrow else noun
        # One layer learns less by heart from a table of low rank, and asks it for little more; two take 4 % longer.
        thin = narrow and (goal.minimize == "size" or keep == 1)
        if thin and survey.tables:
            before += ({"technique": "factorize", "kinds": ["embeddings"], "rank": _TABLE_RANK, **_UNTRAINED},)
        if goal.minimize == "size":
            after = lowered if low == "int8" else ()  # half precision would take the ternary values apart
            yield Rung(f"{name}, ternary", share, share / 2, 1.6, before, (teach, ternary), after)
        else:
            yield Rung(f"{name}, {low}", share, share, _BITS[low], before, (teach,), lowered)


def _shape(survey: Survey, keep: int, *, narrow: bool) -> Iterator[Step]:
    if survey.tables:
        yield {"technique": "trim_vocabulary", "min_count": 2, **_UNTRAINED}
    gone = sorted(survey.removal[: survey.layers - keep])
    yield {"technique": "prune_layers", **({"remove": gone} if gone else {"keep": keep}), **_UNTRAINED}
    if survey.tables:
        yield {"technique": "prune_positions"}
    if narrow and survey.neurons:
        yield {"technique": "prune_neurons", "ratio": _NARROW_NEURONS, "kinds": ["neurons"], **_UNTRAINED}
    if narrow and survey.heads:
        yield {"technique": "prune_neurons", "ratio": _NARROW_HEADS, "kinds": ["heads"], **_UNTRAINED}


def _networks(survey: Survey, goal: Goal, task: TaskName) -> Iterator[Rung]:
    """Yield rungs for networks that are no stack: convolutions and fully connected layers."""
    folded: tuple[Step, ...] = ({"technique": "fold_batch_norm"},) if survey.batch_norms else ()
    teach = _distilled(survey, task, None)
    cuts = _CUTS if survey.neurons or survey.channels else ()
    if goal.minimize == "size":
        yield from _small(folded, narrower=bool(cuts))
        return
    low, lowered = _low_name(goal), (_LOW[goal.device],)
    for ratio in cuts:
        left, cut = _left(ratio), (_cut(ratio),)
        yield Rung(f"{1 - ratio:.0%} of the width", left, left, 32.0, cut, (teach,), folded)
        yield Rung(f"{1 - ratio:.0%} of the width, {low}", left, left, _BITS[low], cut, (teach,), lowered)


def _small(folded: tuple[Step, ...], *, narrower: bool) -> Iterator[Rung]:
    """Yield rungs for the smallest file: few shared values, fewer weights, three values each, fewer neurons."""
    shared: Step = {
        "technique": "share_weights",
        "clusters": _CLUSTERS,
        "min_size": _SHARED_FROM,
        "assignment": "learned",
    }
    many: Step = {**shared, "clusters": _MANY_CLUSTERS}
    yield Rung(f"{_MANY_CLUSTERS} shared values", 1.0, 1.0, 6.0, (), (many,), folded)
    yield Rung(f"{_CLUSTERS} shared values", 1.0, 1.0, 4.0, (), (shared,), folded)
    for sparsity in _SPARSITIES:
        pruned: Step = {"technique": "prune_weights", "sparsity": sparsity}
        bits = 4 * (1 - sparsity) + 1
        yield Rung(f"{1 - sparsity:.0%} of the weights, shared", 1.0, 1.0, bits, (), (pruned, shared), folded)
    yield Rung("ternary", 1.0, 1.0, 1.6, (), ({"technique": "ternarize"},), folded)
    if narrower:
        few: Step = {"technique": "prune_weights", "sparsity": _SPARSITIES[0]}
        name = f"half of the width, {1 - _SPARSITIES[0]:.0%} of the weights, shared"
        left = _left(_HALF_CUT)
        yield Rung(name, left, left, 1.8, (_cut(_HALF_CUT),), (few, shared), folded)
