"""Orders, digits models, and the child run as a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from app.contracts.tasks import MESSAGE, Done, Failed, Progress

ZERO = "0" * 64
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Told:
    """What a child said, its last message, and its exit code."""

    messages: list[Progress]
    last: Done | Failed
    code: int
    errors: str


def tell(scratch: Path, order: dict[str, object], *, first_on_path: Path = ROOT, memory: str = "unlimited") -> Told:
    """Run `python -m workers.compute` on an order; `memory` is the limit of its address space in KiB."""
    scratch.mkdir(exist_ok=True)
    (scratch / "tmp").mkdir(exist_ok=True)
    (scratch / "order.json").write_text(json.dumps(order))
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": f"{first_on_path}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
        "HOME": str(scratch / "tmp"),
    }
    child = subprocess.run(
        ["sh", "-c", 'ulimit -v "$0"; exec "$@"', memory, sys.executable, "-P", "-m", "workers.compute", str(scratch)],
        capture_output=True,
        text=True,
        cwd=scratch,
        env=environment | {"TMPDIR": str(scratch / "tmp")},
        timeout=110,
        check=False,
    )
    messages = [MESSAGE.validate_json(line) for line in child.stdout.splitlines()]
    *before, last = messages
    assert isinstance(last, Done | Failed), child.stderr
    assert not any(isinstance(message, Done | Failed) for message in before)
    return Told([m for m in before if isinstance(m, Progress)], last, child.returncode, child.stderr)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images of 64 values from 0 to 1, and their digits."""
    loaded = load_digits()
    return (loaded.data / 16).astype(np.float32), loaded.target


@cache
def _fitted() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Random features and a logistic regression on them: a trained two-layer network in a moment."""
    images, labels = digits()
    generator = np.random.default_rng(0)
    inner, offset = generator.normal(0, 0.4, (64, 96)).astype(np.float32), np.zeros(96, np.float32)
    hidden = np.maximum(images @ inner + offset, 0)
    outer = LogisticRegression(max_iter=2000).fit(hidden[:1000], labels[:1000])
    return inner, offset, outer.coef_.T.astype(np.float32), outer.intercept_.astype(np.float32)


def mlp(path: Path) -> Path:
    """A two-layer network on digits, opset 13, dynamic batch."""
    tensors = [numpy_helper.from_array(v, n) for n, v in zip(("w1", "b1", "w2", "b2"), _fitted(), strict=True)]
    nodes = [
        helper.make_node("Gemm", ["image", "w1", "b1"], ["inner"], name="first"),
        helper.make_node("Relu", ["inner"], ["active"], name="relu"),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def narrow(path: Path) -> Path:
    """An untrained network on digits with 16 hidden neurons, whose free axis has another name."""
    generator = np.random.default_rng(1)
    sizes = {"a": (64, 16), "b": (16,), "c": (16, 10), "d": (10,)}
    tensors = [
        numpy_helper.from_array(generator.normal(0, 0.2, size).astype(np.float32), n) for n, size in sizes.items()
    ]
    nodes = [
        helper.make_node("Gemm", ["image", "a", "b"], ["inner"]),
        helper.make_node("Relu", ["inner"], ["active"]),
        helper.make_node("Gemm", ["active", "c", "d"], ["logits"]),
    ]
    ports = [
        helper.make_tensor_value_info(*port)
        for port in [("image", TensorProto.FLOAT, ["N", 64]), ("logits", TensorProto.FLOAT, ["N", 10])]
    ]
    graph = helper.make_graph(nodes, "narrow", ports[:1], ports[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def digits_npz(path: Path, *, labelled: bool = True) -> Path:
    images, labels = digits()
    arrays = {"x": images, "y": labels} if labelled else {"x": images}
    with path.open("wb") as stream:  # given a path, NumPy would add a suffix
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return path


def compress(*steps: dict[str, object], **changes: object) -> dict[str, object]:
    return {
        "kind": "compress",
        "model": {"path": "model.onnx", "sha256": ZERO},
        "dataset": {"path": "digits.npz", "sha256": ZERO, "format": "npz"},
        "task": "classification",
        "recipe": {"steps": list(steps)},
        "guard": None,
        "seed": 0,
        "threads": 1,
    } | changes
