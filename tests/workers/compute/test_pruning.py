"""Zeros that come while a model trains, step by step."""

import numpy as np
import torch

from tests.workers.autograd import graphs
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.movement import Movement
from workers.compute.graph.constraints import Mask
from workers.compute.graph.selection import keep_largest
from workers.compute.pruning import Ramp, Rounds

NAME, TOTAL = "head.weight", 10  # the ramp's last step is the sixth


def scored(order: int) -> Movement:
    """Return scores that rise with the position, or fall."""
    movement = Movement()
    movement.scores[NAME] = order * torch.arange(32, dtype=torch.float32).reshape(4, 8)
    return movement


def test_pruned_weights_come_back_when_their_scores_rise() -> None:
    executor = Executor(graphs.model(graphs.cnn()))
    before = executor.trained[NAME]().detach().clone()
    ramp = Ramp([NAME], keep_largest, 0.0, 0.5, scored(1))

    assert ramp(0, TOTAL, executor)
    assert ramp(5, TOTAL, executor)
    early = (executor.trained[NAME]() == 0).reshape(-1)
    ramp.movement = scored(-1)
    assert not ramp(6, TOTAL, executor)

    late = executor.trained[NAME]().detach().reshape(-1)
    assert early[:15].all()
    assert not early[16:].any()
    assert torch.equal(late, torch.where(torch.arange(32) < 16, before.reshape(-1), 0))


def test_zeros_of_an_earlier_step_stay_whatever_their_scores() -> None:
    model = graphs.model(graphs.cnn())
    kept = np.arange(32).reshape(4, 8) < 28
    model.constraints[NAME] = Mask(kept)
    executor = Executor(model)
    ramp = Ramp([NAME], keep_largest, 0.125, 0.5, scored(1))

    for step in (0, 6):
        ramp(step, TOTAL, executor)

    zeros = (executor.trained[NAME]() == 0).reshape(-1)
    assert zeros[:12].all()
    assert zeros[28:].all()
    assert int(zeros.sum()) == 16


def test_each_round_prunes_once_and_the_last_says_so() -> None:
    executor, zeros, more = Executor(graphs.model(graphs.cnn())), [], []
    rounds = Rounds([NAME], keep_largest, [0.25, 0.5, 0.75])
    for step in range(TOTAL):
        more.append(rounds(step, TOTAL, executor))
        zeros.append(int((executor.trained[NAME]() == 0).sum()))

    assert zeros == [8] * 4 + [16] * 3 + [24] * 3
    assert more == [True] * 7 + [False] * 3
    assert executor.revision == 3
