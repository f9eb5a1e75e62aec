"""A training that was broken off anywhere and goes on from what was kept ends with the bits of one that ran through."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto

from app.contracts.report import CurvePoint
from tests.workers.autograd import graphs
from tests.workers.autograd.test_training import QUICK, cnn, picture_set, silent, texts, weights
from workers.compute import tensor_files
from workers.compute.autograd.guiding import Guidance
from workers.compute.autograd.keeping import Kept
from workers.compute.autograd.movement import Movement
from workers.compute.autograd.training import Fit, OnStep, fit
from workers.compute.datasets.samples import Dataset
from workers.compute.graph import grids
from workers.compute.graph.constraints import Codebook, Grid, Half, Mask, Signs
from workers.compute.graph.model import Model
from workers.compute.graph.pairing import pairs_of
from workers.compute.graph.readers import matrices
from workers.compute.graph.selection import keep_largest
from workers.compute.pruning import Ramp, Rounds
from workers.compute.signing import Growing, promises

SEEDED = random.Random(20261126)


class Killed(Exception):
    """Stands for the end of the process."""


class Filed:
    """Keeps what was reached in a file, and dies with it after some steps."""

    def __init__(self, path: Path, dies_after: int | None = None) -> None:
        self.path, self.dies_after, self.asked, self.ended = path, dies_after, 0, list[Kept]()

    def begin(self) -> Kept | None:
        if not self.path.exists():
            return None
        contents = tensor_files.Contents.open(self.path)
        return Kept(contents.facts, contents.arrays(""))

    def due(self) -> bool:
        self.asked += 1
        return self.asked == self.dies_after

    def keep(self, reached: Kept) -> None:
        tensor_files.write(self.path, reached.facts, reached.arrays, {})
        raise Killed

    def end(self, reached: Kept) -> None:
        self.ended.append(reached)


def names() -> list[str]:
    return [name for name in cnn().weights() if cnn().read(name).ndim > 1]


def free() -> tuple[Model, OnStep | None]:
    return cnn(), None


def promised() -> tuple[Model, OnStep | None]:
    """A model with a tensor under each kind of promise."""
    model = cnn()
    first, second, third, *_ = names()
    value = model.read_floats(first)
    steps = grids.fit(value.reshape(len(value), -1), (1,), 4, symmetric=True)
    shape = (-1, *[1] * (value.ndim - 1))
    made = grids.Steps(steps.scale.reshape(shape), steps.zero.reshape(shape), steps.low, steps.high)
    model.constraints[first] = Grid(value.shape, made, np.ones(value.shape, np.bool_), value)
    model.constraints[second] = Signs(0, np.ones(model.read(second).shape, np.bool_), 0.7, learned=True)
    numbers = np.random.default_rng(0).integers(0, 4, model.read(third).shape).astype(np.uint8)
    model.constraints[third] = Codebook(numbers, 4, 0)
    for name in (first, second, third):
        model.write(name, model.constraints[name].project(model.read_floats(name)).astype(np.float32))
    vector = next(name for name in model.weights() if name not in names())
    model.constraints[vector] = Half(np.ones(model.read(vector).shape, np.bool_), "bfloat16")
    model.write(vector, model.constraints[vector].project(model.read_floats(vector)))
    return model, None


def assigned() -> tuple[Model, OnStep | None]:
    """A model whose training also decides which weights share, among zeros that stay."""
    model = cnn()
    for name in names():
        value = model.read_floats(name)
        numbers = np.digitize(value, [-0.1, 0.0, 0.1]).astype(np.uint8)
        numbers[np.abs(value) < 0.01] = 4
        model.constraints[name] = Codebook(numbers, 5, 4, latent=value)
        model.write(name, model.constraints[name].project(np.where(numbers == 4, 0, value)).astype(np.float32))
    return model, None


def ramped(*, moving: bool = False) -> tuple[Model, OnStep | None]:
    model = cnn()
    model.constraints[names()[0]] = Mask(np.abs(model.read_floats(names()[0])) > 0.01)
    model.write(names()[0], model.constraints[names()[0]].project(model.read_floats(names()[0])))
    return model, Ramp(names(), keep_largest, 0.0, 0.8, Movement() if moving else None)


def in_rounds() -> tuple[Model, OnStep | None]:
    return cnn(), Rounds(names(), keep_largest, [0.3, 0.6, 0.8])


def growing() -> tuple[Model, OnStep | None]:
    model = cnn()
    return model, Growing(promises(model, matrices(model), 0.7, learned=True))


CASES: dict[str, Callable[[], tuple[Model, OnStep | None]]] = {
    "free": free,
    "promised": promised,
    "assigned": assigned,
    "ramp": ramped,
    "movement": lambda: ramped(moving=True),
    "rounds": in_rounds,
    "growing": growing,
}
SETTINGS = {
    "plain": QUICK,
    "found rate": replace(QUICK, epochs=46, learning_rate=None),
    "early stop": replace(QUICK, patience=2, epochs=8, alpha=0.5, validations_per_epoch=3),
    "from answers alone": replace(QUICK, alpha=0.0),
    "mixed": replace(QUICK, alpha=0.5, mixup=0.4),
}


def trained(
    model: Model, on_step: OnStep | None, settings: Fit, dataset: Dataset, teacher: Model | None = None
) -> tuple[dict[str, bytes], tuple[CurvePoint, ...], list[str], list[str]]:
    """Train, and return all that it left: weights, curve, what was found, and constraints in their order."""
    said: list[str] = []
    curve = fit(
        model,
        dataset,
        replace(settings, finding=said.append),
        teacher=teacher if teacher is not None else (cnn(3) if settings.alpha < 1 else None),
        progress=silent,
        on_step=on_step,
    )
    told = [f"{name} {constraint}" for name, constraint in model.constraints.items()]
    latent = {
        f"latent {name}": c.latent.tobytes()
        for name, c in model.constraints.items()
        if getattr(c, "latent", None) is not None
    }
    return weights(model) | latent, curve, said, told


def steps_taken(settings: Fit, dataset: Dataset, make: Callable[[], tuple[Model, OnStep | None]], folder: Path) -> int:
    counted = Filed(folder / "never")
    model, on_step = make()
    trained(model, on_step, replace(settings, keeper=counted), dataset)
    return counted.asked


@pytest.mark.timeout(600)  # on a busy machine
@pytest.mark.parametrize(
    ("case", "settings"),
    [
        *((case, "plain") for case in CASES),
        ("promised", "early stop"),
        ("ramp", "early stop"),
        ("movement", "found rate"),
        ("free", "from answers alone"),
        ("promised", "mixed"),
    ],
)
def test_training_ends_with_the_same_bits_when_it_was_killed_at_any_step(
    case: str, settings: str, tmp_path: Path
) -> None:
    make, chosen, dataset = CASES[case], SETTINGS[settings], picture_set()
    undisturbed = trained(*make(), chosen, dataset)
    total = steps_taken(chosen, dataset, make, tmp_path)

    for after in (SEEDED.randint(1, total // 2), SEEDED.randint(total // 2 + 1, total)):
        path = tmp_path / f"{after}"
        with pytest.raises(Killed):
            trained(*make(), replace(chosen, keeper=Filed(path, after)), dataset)
        torch.manual_seed(after)
        assert trained(*make(), replace(chosen, keeper=Filed(path)), dataset) == undisturbed


def test_training_that_is_over_is_not_taken_again(tmp_path: Path) -> None:
    first, settings = Filed(tmp_path / "none"), SETTINGS["early stop"]
    undisturbed = trained(*ramped(), replace(settings, keeper=first), picture_set())
    (left,) = first.ended
    tensor_files.write(tmp_path / "kept", left.facts, left.arrays, {})

    second = Filed(tmp_path / "kept")
    model, on_step = ramped()
    assert trained(model, on_step, replace(settings, keeper=second), picture_set()) == undisturbed
    assert second.asked == 0
    assert isinstance(on_step, Ramp)
    assert on_step.climbed


def test_projections_beside_the_student_go_on_too(tmp_path: Path) -> None:
    teacher, dataset = (
        graphs.model(graphs.encoder()),
        Dataset(texts(64, 0), texts(32, 1), texts(8, 2), "classification"),
    )
    narrow = graphs.Encoder(width=16)

    def student() -> tuple[Model, OnStep | None]:
        return graphs.model(graphs.encoder(sizes=narrow, seed=1)), None

    guidance = Guidance(pairs_of(student()[0], teacher, related=False), hidden=1.0)
    settings = replace(QUICK, epochs=2, alpha=0.5, guidance=guidance)
    undisturbed = trained(*student(), settings, dataset, teacher)

    with pytest.raises(Killed):
        trained(*student(), replace(settings, keeper=Filed(tmp_path / "kept", 5)), dataset, teacher)
    assert trained(*student(), replace(settings, keeper=Filed(tmp_path / "kept")), dataset, teacher) == undisturbed


def noisy(**seed: float) -> Model:
    """Return a classifier that adds random numbers to what it is given."""
    sketch = graphs.Sketch(13)
    noise = sketch.op("RandomNormalLike", "image", scale=0.1, **seed)
    flat = sketch.op("Flatten", sketch.op("Add", "image", noise))
    logits = sketch.op("MatMul", flat, sketch.weight("head", 256, 4))
    sketch.op("Softmax", logits, axis=1, out="scores")
    image, scores = (TensorProto.FLOAT, ["rows", 1, 16, 16]), (TensorProto.FLOAT, ["rows", 4])
    return graphs.model(sketch.proto({"image": image}, {"scores": scores}))


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    undisturbed = trained(noisy(), None, QUICK, picture_set())
    with pytest.raises(Killed):
        trained(noisy(), None, replace(QUICK, keeper=Filed(tmp_path / "kept", 9)), picture_set())
    torch.manual_seed(9)
    assert trained(noisy(), None, replace(QUICK, keeper=Filed(tmp_path / "kept")), picture_set()) == undisturbed


def test_nothing_is_kept_of_a_training_that_draws_from_generators_of_its_own(tmp_path: Path) -> None:
    keeper = Filed(tmp_path / "kept", 1)
    trained(noisy(seed=1.0), None, replace(QUICK, keeper=keeper), picture_set())
    assert not keeper.path.exists()
