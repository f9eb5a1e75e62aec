"""The rows that everything is judged by, which the original must not have learned by heart.

Where a data set gives rows to train on and to test on alone, validation rows are drawn from the former. The original
may have been trained on these, and a network can learn any labels by heart (Zhang et al., 2017, arXiv 1611.03530). What
is compressed never trains on validation rows, so it would be held to a score that the original has nowhere else.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from app.contracts.goal import Goal
from app.contracts.report import Estimate
from workers.compute.autograd.logits import Logits
from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.datasets.splitting import spread
from workers.compute.evaluation import predict
from workers.compute.measuring import Original
from workers.compute.scoring import Judge

# Of the test rows, to validate on: no larger share, and no more rows than were drawn or than tell a point from chance.
_SHARE, _ENOUGH = 1 / 3, 500
_FEWEST = 3  # test rows that can be shared out


@dataclass(frozen=True)
class Ground:
    """A data set, the judge of its validation rows, and what the original answers to both.

    `finding` says why validation rows were taken from the test rows; empty where they were not.
    """

    original: Original
    logits: Logits
    seed: int
    dataset: Dataset
    finding: str = ""

    def judge(self) -> Judge:
        """Return the judge of the validation rows."""
        return self._judge("validation", self.dataset.validation)

    def test_judge(self) -> Judge:
        """Return the judge of the test rows, which nothing about a result is decided by."""
        return self._judge("test", self.dataset.test)

    def fair(self, split_seed: int) -> "Ground":
        """Return these rows, or others where the original has learned the validation rows by heart.

        It has where it is better on drawn validation rows than on test rows, in what a goal holds by default, by more
        than chance: where the 95 % interval of the difference (Newcombe, 1998, of two intervals) lies above 0. Then a
        part of the test rows takes their place, and they are trained on.
        """
        if not self.dataset.drawn or len(self.dataset.test) < _FEWEST:
            return self
        metric = Goal().metric_of(self.dataset.task)
        drawn, test = (judge.quality(judge.original).scores.get(metric) for judge in (self.judge(), self.test_judge()))
        if drawn is None or test is None or not _larger(drawn, test):
            return self
        dataset = _shared_out(self.dataset, split_seed)
        return replace(
            self,
            dataset=dataset,
            finding=f"The original knows the {len(self.dataset.validation):,} rows by heart that were drawn to "
            f"validate on: {metric} {drawn.value:.4f}, on test rows {test.value:.4f}. So {len(dataset.validation):,} "
            "of the test rows judge the steps and the others the result; a data set with validation rows of its own "
            "keeps them all for the result.",
        )

    def _judge(self, split: Literal["validation", "test"], rows: Samples) -> Judge:
        asked = f"{split} shared out" if self.finding else split
        scores = self.logits.scores(asked, lambda: predict(self.original.open(), rows))
        return Judge(split, self.dataset.task, rows.labels, scores, self.dataset.classes, self.seed)


def _larger(one: Estimate, other: Estimate) -> bool:
    return one.value - other.value > math.hypot(one.value - one.low, other.high - other.value)


def _shared_out(dataset: Dataset, seed: int) -> Dataset:
    """Return the data set with a part of its test rows to validate on and the earlier validation rows to train on."""
    count = round(min(_SHARE * len(dataset.test), max(_ENOUGH, len(dataset.validation))))
    classes = dataset.test.labels if dataset.task == "classification" else None
    order = spread(classes, len(dataset.test), seed)
    return replace(
        dataset,
        train=dataset.train.joined(dataset.validation),
        validation=dataset.test.take(np.sort(order[:count])),
        test=dataset.test.take(np.sort(order[count:])),
    )
