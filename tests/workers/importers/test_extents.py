"""Small files that would keep a runtime busy, or take its memory, as soon as it opens them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from app.errors import ModelTooComplex
from tests.hostile.kernels import floats, graph, ints
from workers.compute.importers import extents
from workers.compute.importers.onnx_file import admit, read


def doubling(times: int) -> bytes:
    """A thousand floats, put beside themselves again and again."""
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(times)]
    return graph([*nodes, helper.make_node("ReduceMean", [f"c{times}"], ["y"])], {"c0": floats(1024)})


def computed(side: int) -> bytes:
    """A shape that is a product, so that no constant states it."""
    nodes = [
        helper.make_node("Mul", ["root", "root"], ["shape"]),
        helper.make_node("Expand", ["one", "shape"], ["large"]),
        helper.make_node("ReduceMean", ["large"], ["y"], keepdims=1),
    ]
    return graph(nodes, {"root": ints(side, side), "one": floats(1, 1)})


def products(side: int, times: int) -> bytes:
    nodes = [helper.make_node("Expand", ["one", "shape"], ["e0"])]
    nodes += [helper.make_node("MatMul", [f"e{i}", "e0"], [f"e{i + 1}"]) for i in range(times)]
    nodes += [helper.make_node("ReduceMean", [f"e{times}"], ["y"], keepdims=1)]
    return graph(nodes, {"one": floats(1, 1), "shape": ints(side, side)})


def resized(side: float) -> bytes:
    node = helper.make_node("Resize", ["h", "", "s"], ["y"])
    return graph([node], {"s": np.array([1, 1, side, side], np.float32)}, shape=("batch", 3, 8, 8), rank=4)


def check(contents: bytes, folder: Path) -> None:
    (folder / "upload").write_bytes(contents)
    admit(folder / "upload")
    extents.check(read(folder / "upload"))


@pytest.mark.parametrize(
    "build",
    [lambda: doubling(19), lambda: computed(1 << 10), lambda: products(16_384, 1), lambda: resized(1e6)],
    ids=["doubling", "computed shape", "products", "resized"],
)
def test_what_a_runtime_would_make_of_constants_is_too_complex(build: Callable[[], bytes], tmp_path: Path) -> None:
    with pytest.raises(ModelTooComplex):
        check(build(), tmp_path)


@pytest.mark.parametrize(
    "build",
    [lambda: doubling(10), lambda: computed(30), lambda: products(256, 4), lambda: resized(8)],
    ids=["doubling", "computed shape", "products", "resized"],
)
def test_the_same_in_small_passes(build: Callable[[], bytes], tmp_path: Path) -> None:
    check(build(), tmp_path)
