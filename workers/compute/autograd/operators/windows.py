"""The geometry that convolutions and pools share: kernel, strides, dilations, pads."""

from dataclasses import dataclass

from workers.compute.autograd.operators.base import Node


@dataclass(frozen=True)
class Window:
    """A sliding window; `pads` are ONNX's (all begins, then all ends), None where `auto_pad` decides."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str

    def without_last(self) -> "Window":
        """Return the window along all axes but the last."""
        rank = len(self.kernel)
        pads = (*self.pads[: rank - 1], *self.pads[rank : 2 * rank - 1])
        return Window(self.kernel[:-1], self.strides[:-1], self.dilations[:-1], pads, self.auto_pad)

    def extent(self, axis: int) -> int:
        """Return the width that the dilated kernel covers."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def padding(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return (begin, end) of each spatial axis for an input of these spatial sizes."""
        rank = len(self.kernel)
        if self.auto_pad not in {"SAME_UPPER", "SAME_LOWER"}:
            return [(self.pads[axis], self.pads[axis + rank]) for axis in range(rank)]
        pairs = []
        for axis, size in enumerate(sizes):
            outputs = -(-size // self.strides[axis])
            total = max((outputs - 1) * self.strides[axis] + self.extent(axis) - size, 0)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if self.auto_pad == "SAME_UPPER" else (large, small))
        return pairs


def window_of(node: Node, kernel: tuple[int, ...]) -> Window:
    """Read a node's geometry; `kernel` holds the spatial sizes of the kernel."""
    rank = len(kernel)
    strides, dilations, pads = node.integers("strides"), node.integers("dilations"), node.integers("pads")
    auto_pad = node.text("auto_pad", "NOTSET")
    fixed = pads if pads is not None and auto_pad in {"NOTSET", ""} else [0] * (2 * rank)
    return Window(kernel, tuple(strides or [1] * rank), tuple(dilations or [1] * rank), tuple(fixed), auto_pad)


def flat(pairs: list[tuple[int, int]]) -> list[int]:
    """Return (begin, end) pairs in the order of `torch.nn.functional.pad`: last axis first."""
    return [width for pair in reversed(pairs) for width in pair]
