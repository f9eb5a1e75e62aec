"""Which state of a training is kept. Knows no loop."""

import math
from dataclasses import dataclass

from app.contracts.report import CurvePoint
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.keeping import Standing

# A mean of float32 counts may be off by so much; it is less than one row of a million.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Selection:
    """Compares states on validation rows: by the score if that `counts` rows, else by the loss alone.

    `floor` is the score that somebody wants kept.
    """

    rows: int
    counts: bool
    floor: float | None = None

    def judge(self, point: CurvePoint, standing: Standing, executor: Executor) -> None:
        """Keep a better state. A state from before a change of constraints does not count: it may not keep them."""
        if point.validation_loss is None or point.validation_score is None:
            return
        rank = (point.validation_score, -point.validation_loss) if self.counts else (-point.validation_loss,)
        revision = executor.revision
        known = standing.best_revision == revision
        if not known or rank > standing.best_rank:
            standing.best_rank, standing.best_revision, standing.stale = rank, revision, 0
        elif self.counts and rank[0] >= self.as_good_as(standing.best_rank[0]):
            # A few hundred rows cannot tell these two apart, and the later state has seen more and smaller steps.
            standing.stale += 1
        else:
            standing.stale += 1
            return
        standing.best = {name: value.detach().clone() for name, value in executor.state_dict().items()}

    def as_good_as(self, best: float) -> float:
        """Return the least share of rows that counts as the best one: Breiman's one-standard-error rule (CART, 1984).

        A share below a floor that the best one keeps does not count: somebody will refuse it.
        """
        least = best - math.sqrt(best * (1 - best) / self.rows)
        floor = -math.inf if self.floor is None else self.floor - _ROUNDING
        return least if best < floor else max(least, floor)
