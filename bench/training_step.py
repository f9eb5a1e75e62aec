"""Training step of our executor against the same network written by hand in PyTorch, interleaved in one run.

    python -m bench.training_step [--steps 20] [--threads 2]

Prints the median step times, their ratio with its quartiles, and the CPU flags that decide speed.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from tests.workers.autograd import graphs
from workers.compute.autograd.executor import Executor

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
SIZES = graphs.Encoder(layers=6, width=384, heads=12, vocabulary=8000, positions=128, classes=2)


class Block(nn.Module):
    """One encoder layer, post-norm."""

    def __init__(self, width: int, heads: int) -> None:
        """Make the four projections, the two dense layers and the two norms."""
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend, then transform."""
        rows, length, width = x.shape
        q, k, v = (part(x).view(rows, length, self.heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).reshape(rows, length, width)
        x = self.norm1(self.o(attended) + x)
        y: Tensor = self.norm2(self.down(F.gelu(self.up(x))) + x)
        return y


class HandEncoder(nn.Module):
    """The network of `graphs.encoder`."""

    def __init__(self, sizes: graphs.Encoder) -> None:
        """Make embeddings, blocks and head."""
        super().__init__()
        self.words = nn.Embedding(sizes.vocabulary, sizes.width)
        self.places = nn.Embedding(sizes.positions, sizes.width)
        self.norm = nn.LayerNorm(sizes.width)
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.pool, self.head = nn.Linear(sizes.width, sizes.width), nn.Linear(sizes.width, sizes.classes)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the logits."""
        ids = inputs["input_ids"]
        x = self.norm(self.words(ids) + self.places(torch.arange(ids.shape[1])))
        lowest = torch.finfo(torch.float32).min
        mask = (1 - inputs["attention_mask"][:, None, None, :].float()) * lowest
        for block in self.blocks:
            x = block(x, mask)
        logits: Tensor = self.head(torch.tanh(self.pool(x[:, 0])))
        return logits


class HandCnn(nn.Module):
    """The network of `graphs.cnn`, up to its logits."""

    def __init__(self, channels: int, classes: int) -> None:
        """Make two convolutions with batch norm and the head."""
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv1.bias = self.conv2.bias = None
        self.head = nn.Linear(channels, classes)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the logits."""
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(inputs["image"]))), 2)
        x = F.avg_pool2d(F.relu(self.norm2(self.conv2(x)) + x), 2)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def stepper(module: nn.Module, logits: Callable[[], Tensor], labels: Tensor) -> Callable[[], float]:
    """Return a function that takes one AdamW step and returns its seconds."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    module.train()

    def step() -> float:
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(F.cross_entropy(logits(), labels))
        optimizer.step()
        return time.perf_counter() - begin

    return step


def compare(name: str, ours: Callable[[], float], theirs: Callable[[], float], steps: int) -> float:
    """Run both in turns; print and return the median ratio ours / theirs."""
    for _ in range(3):
        ours(), theirs()
    pairs = [(ours(), theirs()) if at % 2 else tuple(reversed((theirs(), ours()))) for at in range(steps)]
    ratios = sorted(mine / hand for mine, hand in pairs)
    low, middle, high = statistics.quantiles(ratios, n=4)
    mine, hand = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
    print(f"{name:8} ours {mine:8.2f} ms   by hand {hand:8.2f} ms   ratio {middle:.3f} ({low:.3f} to {high:.3f})")
    return middle


def main() -> None:
    """Compare both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    print("threads", chosen.threads, "flags", " ".join(flag for flag in FLAGS if flag in cpu.split()))
    rng = np.random.default_rng(0)

    text = {
        "input_ids": torch.from_numpy(rng.integers(0, SIZES.vocabulary, (16, 64))),
        "attention_mask": torch.from_numpy((np.arange(64) < rng.integers(30, 65, (16, 1))).astype(np.int64)),
    }
    executor, hand = Executor(graphs.model(graphs.encoder(13, SIZES))), HandEncoder(SIZES)
    labels = torch.from_numpy(rng.integers(0, 2, 16))
    ours = stepper(executor, lambda: executor(text)["logits"], labels)
    compare("encoder", ours, stepper(hand, lambda: hand(text), labels), chosen.steps)

    image = {"image": torch.from_numpy(rng.normal(size=(64, 1, 16, 16)).astype(np.float32))}
    network, by_hand = Executor(graphs.model(graphs.cnn(13, channels=32))), HandCnn(32, 4)
    classes = torch.from_numpy(rng.integers(0, 4, 64))
    ours = stepper(network, lambda: network(image, ("logits",))["logits"], classes)
    compare("cnn", ours, stepper(by_hand, lambda: by_hand(image), classes), chosen.steps * 5)


if __name__ == "__main__":
    main()
