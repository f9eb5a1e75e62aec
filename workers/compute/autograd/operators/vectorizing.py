"""TfIdfVectorizer over numbers: how often each n-gram of a pool occurs in a row."""

from itertools import pairwise

import torch
from torch import Tensor

from workers.compute.autograd.operators.base import Kernel, Node, Rule


def _pools(node: Node) -> list[tuple[Tensor, Tensor]]:
    """Return, for each wanted length, the n-grams (count, length) and the output column of each."""
    pool, columns = node.integers("pool_int64s") or [], node.integers("ngram_indexes") or []
    bounds = [*(node.integers("ngram_counts") or []), len(pool)]
    wanted = range(node.integer("min_gram_length"), node.integer("max_gram_length") + 1)
    found, first = [], 0
    for length, (begin, end) in enumerate(pairwise(bounds), start=1):
        count = (end - begin) // length
        if length in wanted and count:
            grams = torch.tensor(pool[begin:end]).reshape(count, length)
            found.append((grams, torch.tensor(columns[first : first + count])))
        first += count
    return found


def _occurrences(rows: Tensor, grams: Tensor, skips: int) -> Tensor:
    """Count each n-gram in each row, with up to `skips` items left out between its items; (rows, grams)."""
    length = grams.shape[1]
    total = torch.zeros(len(rows), len(grams), device=rows.device)
    for step in range(1, 2 if length == 1 else skips + 2):
        places = rows.shape[1] - step * (length - 1)
        if places <= 0:
            break
        windows = torch.stack([rows.narrow(1, at * step, places) for at in range(length)], -1)
        total += (windows.unsqueeze(2) == grams).all(-1).sum(1)
    return total


def _tf_idf(node: Node) -> Kernel:
    if "pool_int64s" not in node.attributes:
        raise node.refuse("a pool of texts; map tokens to numbers outside the model")
    pools, skips, mode = _pools(node), node.integer("max_skip_count"), node.text("mode")
    width = max(node.integers("ngram_indexes") or []) + 1
    weights = torch.tensor(node.attributes.get("weights", [1.0] * width))
    if len(weights) != width:
        raise node.refuse("another number of weights than of outputs")

    def run(x: Tensor) -> Tensor:
        rows = x.reshape(1, -1) if x.dim() <= 1 else x
        counts = torch.zeros(len(rows), width, device=x.device)
        for grams, columns in pools:
            found = _occurrences(rows, grams.to(x.device), skips)
            counts = counts.index_add(1, columns.to(x.device), found)
        counts = counts.clamp(max=1) if mode == "IDF" else counts
        counts = counts if mode == "TF" else counts * weights.to(x.device)
        return counts[0] if x.dim() <= 1 else counts

    return run


RULES: dict[str, Rule] = {"TfIdfVectorizer": _tf_idf}
