"""Training step of our executor against the same network written by hand in PyTorch, interleaved in one run.

    python -m bench.training_step [--steps 30] [--threads 2]

First checks that both compute the same loss and gradients, then prints the median step times and the median ratio
with its 95 % interval, and the CPU flags that decide speed.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from bench.by_hand import HandCnn, HandEncoder
from examples.networks import residual_cnn
from examples.originals import BLOCKS, WIDTHS
from tests.workers.autograd import graphs
from workers.compute.autograd.executor import Executor
from workers.compute.intervals import ratio_of_medians

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
# The MiniLM classifier: 6 layers, width 384, BERT's vocabulary; 32 rows of 64 tokens.
SIZES = graphs.Encoder(layers=6, width=384, heads=12, vocabulary=30522, positions=512, classes=2)
ROWS, TOKENS = 32, 64
# The CNN of the Fashion-MNIST example: 64 pictures of 28×28.
PICTURES, SIDE, CLASSES = 64, 28, 10
# Largest difference of a gradient, as a share of the largest entry of its tensor: float32 sums in another order.
_CLOSE = 1e-3

Inputs = Mapping[str, Tensor]


def agree(executor: Executor, hand: HandEncoder | HandCnn, inputs: Inputs, labels: Tensor) -> None:
    """Give both the same weights and check that loss and every gradient are the same."""
    with torch.no_grad():
        for name, parameter, flipped in hand.named():
            weight = executor.trained[name]()
            parameter.copy_(weight.t() if flipped else weight)
    losses = [F.cross_entropy(executor(inputs)["logits"], labels), F.cross_entropy(hand(inputs), labels)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
    for loss in losses:
        torch.autograd.backward(loss)
    names = set()
    for name, parameter, flipped in hand.named():
        mine, theirs = next(executor.trained[name].parameters()).grad, parameter.grad
        assert mine is not None, f"{name} got no gradient"  # noqa: S101 - a bench's check
        assert theirs is not None  # noqa: S101
        torch.testing.assert_close(
            mine.t() if flipped else mine, theirs, rtol=1e-3, atol=_CLOSE * float(theirs.abs().max()) + 1e-7
        )
        names.add(name)
    assert names == set(executor.trained), "the networks differ"  # noqa: S101 - a bench's check


def stepper(module: nn.Module, logits: Callable[[], Tensor], labels: Tensor) -> Callable[[], float]:
    """Return a function that takes one AdamW step and returns its seconds."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

    def step() -> float:
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(F.cross_entropy(logits(), labels))
        optimizer.step()
        return time.perf_counter() - begin

    return step


def compare(name: str, ours: Callable[[], float], theirs: Callable[[], float], steps: int) -> None:
    """Run both in turns, each first in half of them; print the times and their ratio."""
    for _ in range(3):
        ours(), theirs()
    turns = [(ours(), theirs()) if at % 2 else tuple(reversed((theirs(), ours()))) for at in range(steps)]
    mine, hand = (np.array(column)[:, None] for column in zip(*turns, strict=True))
    ratio = ratio_of_medians(mine, hand, seed=0)
    times = f"ours {np.median(mine) * 1e3:8.2f} ms   by hand {np.median(hand) * 1e3:8.2f} ms"
    print(f"{name:8} {times}   ratio {ratio.value:.3f} (95 % {ratio.low:.3f} to {ratio.high:.3f}, {steps} turns)")


def encoder_case(rng: np.random.Generator) -> tuple[Executor, HandEncoder, Inputs, Tensor]:
    """Return the MiniLM classifier both ways, with a batch."""
    lengths = rng.integers(TOKENS // 2, TOKENS + 1, (ROWS, 1))
    inputs = {
        "input_ids": torch.from_numpy(rng.integers(0, SIZES.vocabulary, (ROWS, TOKENS))),
        "attention_mask": torch.from_numpy((np.arange(TOKENS) < lengths).astype(np.int64)),
    }
    labels = torch.from_numpy(rng.integers(0, SIZES.classes, ROWS))
    return Executor(graphs.model(graphs.encoder(13, SIZES))), HandEncoder(SIZES), inputs, labels


def cnn_case(rng: np.random.Generator) -> tuple[Executor, HandCnn, Inputs, Tensor]:
    """Return the Fashion-MNIST CNN both ways, with a batch."""
    image = torch.from_numpy(rng.normal(size=(PICTURES, 1, SIDE, SIDE)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, CLASSES, PICTURES))
    executor = Executor(graphs.model(residual_cnn(WIDTHS, BLOCKS, SIDE, CLASSES)))
    return executor, HandCnn(WIDTHS, BLOCKS, CLASSES), {"image": image}, labels


def main() -> None:
    """Compare both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    print("threads", chosen.threads, "flags", " ".join(flag for flag in FLAGS if flag in cpu.split()))
    print(f"torch {torch.__version__}   load {os.getloadavg()[0]:.2f}")
    for name, make in (("encoder", encoder_case), ("cnn", cnn_case)):
        executor, hand, inputs, labels = make(np.random.default_rng(0))
        executor.train(), hand.train()
        agree(executor, hand, inputs, labels)
        ours = stepper(executor, lambda: executor(inputs)["logits"], labels)  # noqa: B023 - used in this turn alone
        theirs = stepper(hand, lambda: hand(inputs), labels)  # noqa: B023
        compare(name, ours, theirs, chosen.steps)


if __name__ == "__main__":
    main()
