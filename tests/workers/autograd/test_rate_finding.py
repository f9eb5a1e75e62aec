"""A learning rate found by trials: what is chosen, and that a trial leaves no trace."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.contracts.steps.prune_weights import PruneWeights
from tests.workers.autograd.test_training import QUICK, cnn, picture_set, weights
from tests.workers.graph import networks
from tests.workers.graph.networks import bert, dataset_for
from tests.workers.techniques.steps import take
from workers.compute.autograd import rate_finding, training
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.guiding import Guidance
from workers.compute.autograd.rate_finding import CAUTION, FIXED, LADDER, chosen, find_rate, trial_steps
from workers.compute.autograd.training import fit
from workers.compute.datasets.samples import Dataset
from workers.compute.graph.constraints import Codebook, Mask, Signs
from workers.compute.graph.model import Model
from workers.compute.graph.pairing import pairs_of

FINDING = replace(QUICK, learning_rate=None, epochs=5)
# 96 rows in batches of 4 are 24 steps an epoch: 13 epochs are just enough for trials of 9 steps.
LONG = replace(FINDING, batch_size=4, epochs=13)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of two rates and two steps each: 27 planned steps are enough for them."""
    monkeypatch.setattr(rate_finding, "LADDER", (1e-3, 1e-2))
    monkeypatch.setattr(rate_finding, "_LEAST", 2)


def found_in(said: list[str]) -> float:
    assert len(said) == 1, said
    return float(said[0].split()[2].rstrip(",:"))


def test_trials_are_a_small_part_of_the_training() -> None:
    for planned in (0, 100, 266, 267, 1000, 100_000):
        steps = trial_steps(planned)
        assert steps * len(LADDER) <= 0.15 * planned
        assert steps == 0 or 8 <= steps <= 40


def test_rate_is_the_fixed_one_when_the_training_is_short() -> None:
    found = find_rate(40, lambda _rate, _steps: pytest.fail("nothing is to be tried"))

    assert found.rate == FIXED
    assert "40 steps are too few" in found.note


def test_climb_ends_when_the_loss_gets_clearly_worse() -> None:
    tried: list[float] = []

    def trial(rate: float, _steps: int) -> float:
        tried.append(rate)
        return [1.0, 0.5, 2.0][len(tried) - 1]

    found = find_rate(1000, trial)

    assert (found.rate, tried) == (CAUTION * LADDER[1], list(LADDER[:3]))
    assert found.note == "learning rate 0.00015, found by a range test over 0.0001 to 0.001 (30 steps each)"


@pytest.mark.parametrize(
    ("losses", "rate"),
    [
        ([1.0, 0.5, 0.3, 0.9], 1e-3),
        ([1.0, 0.5, 0.300, 0.301, 0.9], 3e-3),  # as good as the best
        ([1.0, math.inf], 1e-4),
    ],
)
def test_choice_is_the_largest_rate_among_the_best(losses: list[float], rate: float) -> None:
    assert chosen(losses) == rate


def test_lowest_rate_is_taken_when_every_trial_diverges() -> None:
    assert find_rate(1000, lambda _rate, _steps: math.inf).rate == CAUTION * LADDER[0]
    assert find_rate(1000, lambda _rate, _steps: math.nan).rate == CAUTION * LADDER[0]


def constrained() -> Model:
    """A mask, a codebook and, with latent weights, signs."""
    model = cnn()
    first, second, third = [name for name in model.weights() if model.read(name).ndim > 1][:3]
    shape = model.read(second).shape
    kept = np.random.default_rng(0).random(model.read(first).shape) < 0.5
    model.constraints[first] = Mask(kept)
    model.constraints[second] = Codebook(np.arange(model.read(second).size).reshape(shape) % 4, 4)
    everything = np.ones(model.read(third).shape, np.bool_)
    model.constraints[third] = Signs(0, everything, threshold=0.7, latent=model.read_floats(third))
    for name, constraint in model.constraints.items():
        model.write(name, constraint.project(model.read_floats(name)))
    return model


def latent(model: Model) -> list[bytes]:
    return [promise.latent.tobytes() for promise in model.constraints.values() if isinstance(promise, Signs)]  # type: ignore[union-attr]


@pytest.mark.usefixtures("quick")
def test_training_goes_as_with_the_rate_set_when_it_was_found() -> None:
    tested, told, said = constrained(), constrained(), list[str]()

    first = fit(tested, picture_set(), replace(FINDING, finding=said.append))
    second = fit(told, picture_set(), replace(FINDING, learning_rate=found_in(said)))

    assert first == second
    assert weights(tested) == weights(told)
    assert latent(tested) == latent(told)


@pytest.mark.usefixtures("quick")
def test_training_goes_as_with_the_rate_set_when_constraints_change_on_the_way() -> None:
    name = next(name for name, value in cnn().weights().items() if cnn().read(name).ndim > 1)

    def prune(step: int, total: int, executor: Executor) -> bool:
        if step == total // 2:
            executor.set_constraint(name, Mask(cnn().read_floats(name) > 0))
        return step < total // 2

    tested, told, said = cnn(), cnn(), list[str]()
    fit(tested, picture_set(), replace(FINDING, finding=said.append), on_step=prune)
    fit(told, picture_set(), replace(FINDING, learning_rate=found_in(said)), on_step=prune)

    assert weights(tested) == weights(told)
    assert tested.constraints.keys() == {name}


@pytest.mark.usefixtures("quick")
def test_training_goes_as_with_the_rate_set_when_a_teacher_guides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = bert(2)
    monkeypatch.setattr(networks, "WIDTH", 8)  # narrower students have projections, which are trained too
    dataset, said, models = dataset_for(teacher), list[str](), []
    epochs = 28 / -(-len(dataset.train) // 16)
    for rate in (None, 0.0):
        model = bert(2)
        guidance = Guidance(pairs_of(model, teacher, related=False), hidden=1.0, attention=1.0)
        settings = replace(FINDING, epochs=epochs, alpha=0.5, guidance=guidance, finding=said.append)
        settings = settings if rate is None else replace(settings, learning_rate=found_in(said))
        fit(model, dataset, settings, teacher=teacher)
        models.append(model)

    assert weights(models[0]) == weights(models[1])


@pytest.mark.usefixtures("quick")
def test_training_goes_as_with_the_rate_set_when_movement_chooses_weights(tmp_path: Path) -> None:
    spec, said, models = PruneWeights(importance="movement", epochs=10, batch_size=16), list[str](), []
    for rate in (None, 0.0):
        each = spec if rate is None else spec.model_copy(update={"learning_rate": found_in(said)})
        models.append(take(each, networks.cnn(), tmp_path, finding=said.append).model)

    assert weights(models[0]) == weights(models[1])


@pytest.mark.usefixtures("quick")
def test_random_numbers_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    train = training._Session.train

    def noting(session: training._Session, *arguments: object) -> None:
        states.append(torch.get_rng_state())
        train(session, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(training._Session, "train", noting)

    def roll(_step: int, _total: int, _executor: Executor) -> bool:
        torch.rand(3)
        return False

    for rate in (None, 1e-3):
        fit(cnn(), picture_set(), replace(FINDING, learning_rate=rate), on_step=roll)

    assert torch.equal(states[0], states[1])


@pytest.mark.usefixtures("quick")
def test_rate_is_found_when_there_are_no_validation_rows() -> None:
    full, said = picture_set(), list[str]()
    dataset = Dataset(full.train, full.validation.take(slice(0, 0)), full.test, full.task)

    fit(cnn(), dataset, replace(FINDING, finding=said.append))

    assert found_in(said) / CAUTION in rate_finding.LADDER


def test_found_rate_is_better_than_the_fixed_one_when_much_is_to_be_learned() -> None:
    losses = []
    for rate in (None, FIXED):
        model = cnn()
        curve = fit(model, picture_set(), replace(LONG, learning_rate=rate))
        losses.append(min(point.validation_loss for point in curve if point.validation_loss is not None))

    assert losses[0] < losses[1]
