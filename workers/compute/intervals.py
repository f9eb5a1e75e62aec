"""95 % confidence intervals. Pure arithmetic on counts and arrays; knows no model."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from app.contracts.report import Estimate

Z = 1.959964  # 97.5 % quantile of the normal distribution
REPLICATES = 1000
_TAILS = (2.5, 97.5)

Float = NDArray[np.float64]
# Maps replicated cell counts (replicates, cells) to one figure per replicate.
Figure = Callable[[Float], Float]


def wilson(hits: int, samples: int) -> Estimate:
    """Wilson's score interval of a proportion (J. Am. Stat. Assoc. 22, 1927); it never degenerates at 0 or 1."""
    if not samples:
        return Estimate(value=0.0, low=0.0, high=1.0, samples=0)
    share = hits / samples
    spread = Z * math.sqrt(share * (1 - share) / samples + (Z / (2 * samples)) ** 2)
    scale = 1 + Z * Z / samples
    center = share + Z * Z / (2 * samples)
    low, high = (center - spread) / scale, (center + spread) / scale
    return Estimate(value=share, low=min(max(0.0, low), share), high=max(min(1.0, high), share), samples=samples)


def mean_of_proportions(parts: list[Estimate]) -> Estimate:
    """Return the mean of independent proportions, intervals combined by squares (MOVER, Zou & Donner 2008)."""
    count = len(parts)
    mean = sum(part.value for part in parts) / count
    below = math.sqrt(sum((part.value - part.low) ** 2 for part in parts)) / count
    above = math.sqrt(sum((part.high - part.value) ** 2 for part in parts)) / count
    samples = sum(part.samples for part in parts)
    return Estimate(value=mean, low=max(0.0, mean - below), high=min(1.0, mean + above), samples=samples)


def paired_difference(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Estimate:
    """Return after - before of two proportions on the same rows (Newcombe 1998, Statist. Med. 17, method 10).

    Both arrays are boolean (rows,): whether each row was right.
    """
    rows = len(before)
    first, second = wilson(int(before.sum()), rows), wilson(int(after.sum()), rows)
    both = float(np.mean(before & after))
    scale = math.sqrt(first.value * (1 - first.value) * second.value * (1 - second.value))
    phi = (both - first.value * second.value) / scale if scale else 0.0
    up, up_other = second.high - second.value, first.value - first.low
    down, down_other = second.value - second.low, first.high - first.value
    difference = second.value - first.value
    above = math.sqrt(max(0.0, up * up - 2 * phi * up * up_other + up_other * up_other))
    below = math.sqrt(max(0.0, down * down - 2 * phi * down * down_other + down_other * down_other))
    return Estimate(value=difference, low=difference - below, high=difference + above, samples=rows)


def mean(values: Float) -> Estimate:
    """Return the mean of one value per row with its normal interval."""
    spread = Z * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    center = float(values.mean())
    return Estimate(value=center, low=center - spread, high=center + spread, samples=len(values))


def bootstrap_cells(counts: NDArray[np.int64], figure: Figure, seed: int) -> Estimate:
    """Bootstrap a figure of a table of counts: rows are resampled, which makes the cells multinomial.

    Efron & Tibshirani 1993, percentile interval.
    """
    rows = int(counts.sum())
    value = float(figure(counts[None].astype(np.float64))[0])
    replicates = max(100, min(REPLICATES, 20_000_000 // max(1, len(counts))))  # 160 MB of counts at most
    drawn = np.random.default_rng(seed).multinomial(rows, counts / rows, size=replicates)
    low, high = np.percentile(figure(drawn.astype(np.float64)), _TAILS)
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value), samples=rows)


def bootstrap_rows(rows: int, figure: Callable[[NDArray[np.intp]], float], seed: int) -> Estimate:
    """Bootstrap a figure of resampled row numbers; percentile interval of 400 replicates."""
    generator = np.random.default_rng(seed)
    value = figure(np.arange(rows))
    drawn = [figure(generator.integers(0, rows, rows)) for _ in range(400)]
    low, high = np.percentile(drawn, _TAILS)
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value), samples=rows)


def ratio_of_medians(numerator: Float, denominator: Float, seed: int) -> Estimate:
    """Bootstrap median(numerator) / median(denominator) of times (turns, calls); percentile interval, NaNs left out.

    Whole turns are resampled, the same of both: calls of one turn are alike, and turn i of both met the same noise.
    """
    turns = np.random.default_rng(seed).integers(0, len(numerator), (REPLICATES // 2, len(numerator)))
    drawn = [float(np.nanmedian(numerator[rows]) / np.nanmedian(denominator[rows])) for rows in turns]
    value = float(np.nanmedian(numerator) / np.nanmedian(denominator))
    low, high = np.percentile(drawn, _TAILS)
    samples = int(np.isfinite(numerator).sum())
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value), samples=samples)
