"""Which of the states that validation has seen is kept."""

from collections.abc import Sequence

import torch

from app.contracts.report import CurvePoint
from tests.workers.autograd import graphs
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.keeping import Standing
from workers.compute.autograd.selecting import Selection


def kept(selection: Selection, points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which state is kept after each validation, by its place among these scores and losses."""
    executor, standing, found = Executor(graphs.model(graphs.cnn())), Standing(0.0), []
    bias = f"_places.{list(executor.trained).index('head.bias')}.value"
    for place, (score, loss) in enumerate(points):
        with torch.no_grad():
            executor.trained["head.bias"].value.fill_(place)
        point = CurvePoint(step=1, epoch=1, validation_loss=loss, validation_score=score)
        selection.judge(point, standing, executor)
        found.append(int(standing.best[bias][0]))
    return found


def test_later_state_is_kept_when_the_rows_cannot_tell_it_from_the_best() -> None:
    assert kept(Selection(48, counts=True), [(0.90, 0.1), (0.87, 0.1), (0.70, 0.1)]) == [0, 1, 1]  # one error: 0.043


def test_state_that_keeps_what_is_wanted_does_not_give_way_to_one_that_does_not() -> None:
    states = [(0.90, 0.1), (0.89, 0.1), (0.87, 0.1)]
    assert kept(Selection(48, counts=True, floor=0.89), states) == [0, 1, 1]
    assert kept(Selection(48, counts=True, floor=0.95), states) == [0, 1, 2]  # out of reach: no state keeps it


def test_where_no_rows_are_counted_the_lower_loss_is_kept() -> None:
    assert kept(Selection(48, counts=False), [(0.90, 0.2), (0.80, 0.1), (0.99, 0.15)]) == [0, 1, 1]


def test_a_score_without_a_number_is_passed_over() -> None:
    standing, executor = Standing(0.0), Executor(graphs.model(graphs.cnn()))
    Selection(48, counts=True).judge(CurvePoint(step=1, epoch=1, validation_score=0.9), standing, executor)
    assert not standing.best
