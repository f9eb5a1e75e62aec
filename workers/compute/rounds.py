"""Several trainings of one step, told as one: their progress and their curve."""

from app.contracts.report import CurvePoint
from workers.compute.autograd.training import Progress

Curve = tuple[CurvePoint, ...]


def part(progress: Progress, index: int, count: int) -> Progress:
    """Return the progress of training `index` of `count`, which take equally long."""
    return lambda share, point: progress((index + share) / count, point)


def joined(first: Curve, second: Curve) -> Curve:
    """Return one curve, whose steps and epochs go on where the first ends."""
    if not first:
        return second
    last = first[-1]
    moved = (
        point.model_copy(update={"step": point.step + last.step, "epoch": point.epoch + last.epoch}) for point in second
    )
    return (*first, *moved)
