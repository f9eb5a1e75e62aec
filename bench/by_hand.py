"""The bench's networks as a PyTorch user writes them, and how their parameters are called in the ONNX graphs."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from tests.workers.autograd import graphs


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

    def named(self) -> Iterator[tuple[str, nn.Parameter, bool]]:
        """Yield each parameter with its name in the graph and whether it lies there transposed."""
        yield "words", self.words.weight, False
        yield "places", self.places.weight, False
        parts: list[tuple[str, nn.Module, bool]] = [("embedding_norm", self.norm, False)]
        for at, block in enumerate(self.blocks):
            parts += [(f"layer{at}.attention.{name}", getattr(block, name), True) for name in "qkvo"]
            parts += [(f"layer{at}.{name}", getattr(block, name), True) for name in ("up", "down")]
            parts += [(f"layer{at}.{name}", getattr(block, name), False) for name in ("norm1", "norm2")]
        for name, module, flipped in [*parts, ("pool", self.pool, False), ("head", self.head, False)]:
            yield f"{name}.weight", module.get_parameter("weight"), flipped
            yield f"{name}.bias", module.get_parameter("bias"), False


class Convolved(nn.Sequential):
    """Convolution and batch normalization."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1) -> None:
        """Make both; the normalization has the bias."""
        conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out))


class Residual(nn.Module):
    """Two 3×3 convolutions and a shortcut; halves the picture when the channels change."""

    def __init__(self, into: int, out: int) -> None:
        """Make them."""
        super().__init__()
        stride = 1 if into == out else 2
        self.a, self.b = Convolved(into, out, 3, stride), Convolved(out, out, 3)
        self.short = None if into == out else Convolved(into, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add the shortcut."""
        y = self.b(F.relu(self.a(x)))
        return F.relu(y + (x if self.short is None else self.short(x)))


class HandCnn(nn.Module):
    """The network of `examples.networks.residual_cnn`."""

    def __init__(self, widths: tuple[int, ...], blocks: int, classes: int) -> None:
        """Make stem, stages and head."""
        super().__init__()
        self.stem = Convolved(1, widths[0], 3)
        self.stages = nn.ModuleDict()
        into = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                self.stages[f"stage{stage}_{block}"] = Residual(into, width)
                into = width
        self.head = nn.Linear(into, classes)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the logits."""
        x = F.relu(self.stem(inputs["image"]))
        for block in self.stages.values():
            x = block(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits

    def named(self) -> Iterator[tuple[str, nn.Parameter, bool]]:
        """Yield each parameter with its name in the graph and whether it lies there transposed."""
        parts: list[tuple[str, nn.Module]] = [("stem", self.stem)]
        for name, block in self.stages.items():
            parts += [(f"{name.replace('_', '.')}.{part}", module) for part, module in block.named_children()]
        for name, module in parts:
            for own, key in (("0.weight", "weight"), ("1.weight", "gamma"), ("1.bias", "beta")):
                yield f"{name}.{key}", module.get_parameter(own), False
        yield "head.weight", self.head.weight, False
        yield "head.bias", self.head.bias, False
