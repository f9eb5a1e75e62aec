"""Small networks of the known families, exported by PyTorch's own exporter, with a batch to feed them."""

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir.passes import common
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.graph.model import Model

Array = NDArray[np.generic]
CLASSES, VOCABULARY = 5, 50


def _conv(entering: int, leaving: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(entering, leaving, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(leaving), nn.ReLU())


class Residual(nn.Module):
    """A residual block; a strided one has a projection on its shortcut."""

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _conv(entering, leaving, 3, stride), _conv(leaving, leaving)[:2]
        same = stride == 1 and entering == leaving
        self.shortcut = nn.Identity() if same else _conv(entering, leaving, 1, stride)[:2]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class ResNet(nn.Module):
    """Residual blocks, two of them with downsampling."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 24, 2))
        self.body = nn.Sequential(_conv(3, 8), *(Residual(*size) for size in sizes), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.body(x), 1))


class Inverted(nn.Module):
    """MobileNetV2's block: expand, depthwise, squeeze and excite, project."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand, self.deep = _conv(width, 3 * width, 1), _conv(3 * width, 3 * width, 3, 1, 3 * width)
        self.less, self.more = nn.Conv2d(3 * width, 4, 1), nn.Conv2d(4, 3 * width, 1)
        self.project = _conv(3 * width, width, 1)[:2]

    def forward(self, x: Tensor) -> Tensor:
        wide = self.deep(self.expand(x))
        gate = torch.sigmoid(self.more(F.relu(self.less(wide.mean((2, 3), keepdim=True)))))
        return x + self.project(wide * gate)


class MobileNet(nn.Module):
    """Depthwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(3, 8, 3, 2), Inverted(8), Inverted(8), _conv(8, 20, 1))
        self.head = nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class UNet(nn.Module):
    """Skip connections by concatenation, upsampling by transposed convolution and by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = _conv(3, 6), _conv(6, 10, 3, 2), _conv(10, 14, 3, 2)
        self.up = nn.ConvTranspose2d(14, 8, 2, 2)
        self.merge, self.last = _conv(18, 9), _conv(15, 7)
        self.head = nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(one)
        merged = self.merge(torch.cat((two, self.up(self.three(two))), 1))
        larger = F.interpolate(merged, scale_factor=2, mode="nearest")
        return self.head(self.last(torch.cat((one, larger), 1)))


class DenseNet(nn.Module):
    """Every layer reads all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * at) for at in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 4 * at, 4, 3, 1, 1) for at in range(3))
        self.norm, self.turn = nn.BatchNorm2d(20), nn.Conv2d(20, 10, 1)
        self.head = nn.Linear(10 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 2)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat((x, conv(F.relu(norm(x)))), 1)
        x = F.avg_pool2d(self.turn(F.relu(self.norm(x))), 2)
        return self.head(torch.flatten(x, 1))


class Shuffle(nn.Module):
    """ShuffleNet's unit: split in halves, two-group convolution, channel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = _conv(3, 12, 3, 2), _conv(6, 6, 3, 1, 6)
        self.grouped, self.head = nn.Conv2d(12, 16, 1, groups=2), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, 1)
        x = torch.cat((left, self.branch(right)), 1)
        rows, channels, height, width = x.shape
        x = x.view(rows, 2, channels // 2, height, width).transpose(1, 2).reshape(rows, -1, height, width)
        return self.head(self.grouped(x).amax((2, 3)))


class Bert(nn.Module):
    """Post-norm encoder layers as Hugging Face writes them, learned positions."""

    def __init__(self, layers: int = 2, width: int = 24, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.words, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(32, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {name: nn.Linear(width, width) for name in ("q", "k", "v", "out")}
                | {"up": nn.Linear(width, 40), "down": nn.Linear(40, width)}
                | {name: nn.LayerNorm(width) for name in ("norm1", "norm2")}
            )
            for _ in range(layers)
        )
        self.pool, self.head = nn.Linear(width, width), nn.Linear(width, CLASSES)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, self.size).transpose(1, 2)

    def _layer(self, layer: nn.ModuleDict, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (self._heads(layer[name](x)) for name in "qkv")
        scores = query @ key.transpose(-1, -2) / self.size**0.5 + bias
        mixed = (scores.softmax(-1) @ value).transpose(1, 2)
        x = layer["norm1"](layer["out"](mixed.reshape(*mixed.shape[:2], -1)) + x)
        return layer["norm2"](layer["down"](F.gelu(layer["up"](x))) + x)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.norm(self.words(ids) + self.positions(torch.arange(ids.shape[1])))
        bias = (1.0 - mask[:, None, None, :].float()) * -1e4
        for layer in self.layers:
            x = self._layer(layer, x, bias)
        return self.head(torch.tanh(self.pool(x[:, 0])))


class Vit(nn.Module):
    """A vision transformer: patches, class token, one weight for queries, keys and values, pre-norm."""

    def __init__(self, width: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.patches, self.token = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(5))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.up, self.down = (nn.ModuleList(nn.Linear(*size) for _ in range(2)) for size in ((width, 36), (36, width)))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.positions
        for at in range(2):
            rows, length, width = x.shape
            qkv = self.qkv[at](self.norms[2 * at](x)).reshape(rows, length, 3, self.heads, width // self.heads)
            query, key, value = qkv.permute(2, 0, 3, 1, 4)
            mixed = (query @ key.transpose(-2, -1) * 0.35).softmax(-1) @ value
            x = x + self.out[at](mixed.transpose(1, 2).reshape(rows, length, width))
            x = x + self.down[at](F.gelu(self.up[at](self.norms[2 * at + 1](x))))
        return self.head(self.norms[4](x)[:, 0])


class Recurrent(nn.Module):
    """A text classifier: embedding, two recurrent layers, the first in both directions, last state."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 12)
        self.first = kind(12, 10, batch_first=True, bidirectional=True)
        self.second = kind(20, 14, batch_first=True)
        self.head = nn.Linear(14, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        found, _ = self.second(self.first(self.words(ids))[0])
        return self.head(found[:, -1])


class Attention(nn.Module):
    """PyTorch's own attention module: heads counted together with the rows, sizes read from values."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 24)
        self.layers = nn.ModuleList(nn.MultiheadAttention(24, 4, batch_first=True) for _ in range(2))
        self.head = nn.Linear(24, CLASSES)
        for layer in self.layers:  # equal ones would become one initializer
            nn.init.normal_(layer.in_proj_bias)
            nn.init.normal_(layer.out_proj.bias)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for layer in self.layers:
            x = x + layer(x, x, x, need_weights=False)[0]
        return self.head(x.mean(1))


class Folded(nn.Module):
    """Attention by batched products: (rows·heads, length, size), the length left open."""

    def __init__(self, heads: int = 4, size: int = 6) -> None:
        super().__init__()
        self.heads, self.size, width = heads, size, heads * size
        self.words = nn.Embedding(VOCABULARY, width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.head = nn.Linear(width, CLASSES)

    def _fold(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        apart = x.view(rows, length, self.heads, self.size).transpose(1, 2)
        return apart.reshape(rows * self.heads, -1, self.size)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        rows, length, width = x.shape
        query, key, value = (self._fold(part(x)) for part in (self.query, self.key, self.value))
        mixed = torch.bmm(torch.bmm(query, key.transpose(1, 2)).softmax(-1), value)
        mixed = mixed.view(rows, self.heads, -1, self.size).transpose(1, 2).reshape(rows, length, width)
        return self.head(self.out(mixed).mean(1))


@dataclass(frozen=True)
class Case:
    """A network with inputs, the axes of each that the data decide, and the opsets to export it at."""

    make: Callable[[], nn.Module]
    inputs: Callable[[np.random.Generator, int], dict[str, Array]]
    free: Mapping[str, dict[int, str]]
    opsets: tuple[int, ...] = (9, 13, 18)


def _image(rng: np.random.Generator, rows: int) -> dict[str, Array]:
    return {"x": rng.normal(size=(rows, 3, 16, 16)).astype(np.float32)}


def _small_image(rng: np.random.Generator, rows: int) -> dict[str, Array]:
    return {"x": rng.normal(size=(rows, 3, 8 * 2, 8 * 2)).astype(np.float32)}


def _text(rng: np.random.Generator, rows: int) -> dict[str, Array]:
    mask = (np.arange(7) < rng.integers(2, 8, (rows, 1))).astype(np.int64)
    return {"ids": rng.integers(0, VOCABULARY, (rows, 7)), "mask": mask}


def _ids(rng: np.random.Generator, rows: int) -> dict[str, Array]:
    return {"ids": rng.integers(0, VOCABULARY, (rows, 6))}


_ROWS = {"x": {0: "rows"}}
_TOKENS = {0: "rows", 1: "tokens"}

CASES: Mapping[str, Case] = {
    "resnet": Case(ResNet, _image, _ROWS),
    "mobilenet": Case(MobileNet, _image, _ROWS),
    "unet": Case(UNet, _image, _ROWS),
    "densenet": Case(DenseNet, _small_image, _ROWS),
    "shufflenet": Case(Shuffle, _image, _ROWS),
    "bert": Case(Bert, _text, {"ids": _TOKENS, "mask": _TOKENS}),
    "vit": Case(Vit, _image, _ROWS),
    "lstm": Case(Recurrent, _ids, {"ids": _TOKENS}),
    # At a free length the exporter writes that of its example into one of the reshapes.
    "attention": Case(Attention, _ids, {"ids": {0: "rows"}}, (14, 18)),
    "folded": Case(Folded, _ids, {"ids": _TOKENS}),
    "gru": Case(lambda: Recurrent(nn.GRU), _ids, {"ids": _TOKENS}),
}


def export(case: Case, opset: int) -> Model:
    """Return the network as the exporter writes it, weights drawn with a seed, statistics moved off their start."""
    torch.manual_seed(0)
    network = case.make().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    inputs = case.inputs(np.random.default_rng(0), 2)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of shapes taken as constants and of its own successor
        torch.onnx.export(
            network,
            tuple(torch.from_numpy(value) for value in inputs.values()),
            file,
            dynamo=False,
            opset_version=opset,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes={**case.free, "logits": {0: "rows"}},
            do_constant_folding=True,
        )
    proto = onnx.load_from_string(file.getvalue())
    loaded = ir.serde.deserialize_model(proto)
    common.LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=0)(loaded)
    return Model(loaded)
