"""The scores of movement pruning, by hand."""

import numpy as np
import torch

from tests.workers.autograd import graphs
from tests.workers.autograd.test_training import pictures
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.movement import Movement
from workers.compute.graph.constraints import Mask

NAMES = ("conv2.weight", "head.weight")


def backward(executor: Executor, rows: int) -> None:
    images = torch.from_numpy(pictures(rows, 0).inputs["image"])
    torch.autograd.backward(executor.train()({"image": images})["scores"].square().mean())


def clipped(products: dict[str, torch.Tensor], gradients: list[torch.Tensor]) -> dict[str, np.ndarray]:
    norm = torch.cat([gradient.reshape(-1) for gradient in gradients]).norm()
    return {name: (-product / max(1.0, float(norm))).numpy() for name, product in products.items()}


def expected(executor: Executor) -> dict[str, np.ndarray]:
    """Return the scores of one step of free weights, by their own gradients."""
    values = {name: executor.trained[name].value for name in NAMES}
    gradients = [value.grad for value in values.values()]
    return clipped({name: (value * value.grad).detach() for name, value in values.items()}, gradients)


def test_scores_are_minus_weight_times_gradient_added_up() -> None:
    executor, movement, wanted = Executor(graphs.model(graphs.cnn())), Movement(), []
    for rows in (4, 8):
        movement.watch(executor, NAMES)
        executor.zero_grad()
        backward(executor, rows)
        wanted.append(expected(executor))
    movement.settle()

    for name in NAMES:
        np.testing.assert_allclose(movement.scores[name], wanted[0][name] + wanted[1][name], rtol=1e-5, atol=1e-8)


def test_pruned_weights_go_on_scoring_with_the_value_they_had() -> None:
    executor, movement = Executor(graphs.model(graphs.cnn())), Movement()
    value = executor.trained["head.weight"].value.detach().clone()
    kept = value.abs().numpy() > 0.1
    executor.set_constraint("head.weight", Mask(kept))
    movement.watch(executor, ["head.weight"])
    backward(executor, 4)
    movement.settle()

    shown = graphs.model(graphs.cnn())
    shown.write("head.weight", np.where(kept, shown.read("head.weight"), 0).astype(np.float32))
    free = Executor(shown)
    backward(free, 4)
    gradient = free.trained["head.weight"].value.grad

    wanted = clipped({"head.weight": value * gradient}, [gradient])["head.weight"]
    assert np.abs(wanted[~kept]).max() > 0
    np.testing.assert_allclose(movement.scores["head.weight"], wanted, rtol=1e-5, atol=1e-8)


def test_nothing_is_watched_when_no_gradient_is_wanted() -> None:
    executor, movement = Executor(graphs.model(graphs.cnn())), Movement()
    movement.watch(executor, NAMES)
    with torch.no_grad():
        executor.eval()({"image": torch.from_numpy(pictures(2, 0).inputs["image"])})
    movement.settle()

    assert movement.scores == {}


def test_scores_are_those_when_activations_are_computed_again() -> None:
    found = []
    for limit in (None, 0):
        executor, movement = Executor(graphs.model(graphs.cnn()), activation_bytes=limit), Movement()
        movement.watch(executor, NAMES)
        backward(executor, 4)
        movement.settle()
        found.append(movement.scores)

    assert all(torch.equal(found[0][name], found[1][name]) for name in NAMES)
