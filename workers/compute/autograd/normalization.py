"""By which statistics batch normalization goes while a model trains. Knows no loop."""

from collections.abc import Callable

import torch

from workers.compute.autograd.executor import Executor

# The ratio of losses that is no chance. (Before any training both losses are those of guessing.)
_CLEARLY = 1.5


def choose_statistics(executor: Executor, loss: Callable[[], float]) -> None:
    """Let batch normalization go by the running statistics if `loss` is clearly worse without them.

    After heavy pruning they are stale and the batches' own are right. But where the rows are unlike those that the
    model once learned from, normalizing by the batch makes another network, and to train that one does not help the
    one that is shipped. The statistics are left as they were.
    """
    if not executor.statistics:
        return
    kept = [statistic.clone() for statistic in executor.statistics]
    losses = []
    with torch.no_grad():
        for by_batch in (False, True):
            executor.train(by_batch)
            losses.append(loss())
        for statistic, before in zip(executor.statistics, kept, strict=True):
            statistic.copy_(before)
    executor.fixed_statistics = losses[1] > _CLEARLY * losses[0]
