"""Every encoding found gives back, through ONNX Runtime, the bits of whatever it accepts."""

import ast
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from workers.compute import encodings
from workers.compute.encodings import ENCODINGS
from workers.compute.encodings.base import Array, Contents
from workers.compute.encodings.packer import decoder_file

RANDOM = np.random.default_rng(5)
NORMAL = RANDOM.normal(size=(40, 60)).astype(np.float32)
TENSORS: dict[str, Array] = {
    "dense": NORMAL,
    "shared": NORMAL[0, RANDOM.integers(0, 16, (40, 60))],
    "pruned": np.where(RANDOM.random((40, 60)) < 0.9, np.float32(0), NORMAL),
    "pruned and shared": np.where(RANDOM.random((40, 60)) < 0.9, np.float32(0), np.sign(NORMAL)),
    "half": NORMAL.astype(np.float16),
    "ternary by row": np.sign(np.rint(NORMAL)) * np.abs(NORMAL[:, :1]),
    "int4 by block": np.rint(4 * NORMAL[:, :32]).clip(-7, 7) * np.abs(NORMAL[:, -1:]),
    "shared by block": np.concatenate([NORMAL[at, RANDOM.integers(0, 16, (16, 60))] for at in range(3)])[:40],
    "shared sub-vectors": NORMAL[0].reshape(-1, 4)[RANDOM.integers(0, 15, 600)].reshape(40, 60),
    "shared sub-vectors down columns": NORMAL[0].reshape(-1, 4)[RANDOM.integers(0, 15, 600)].reshape(60, 40).T.copy(),
    "repeated": NORMAL[RANDOM.integers(0, 5, 40)],
    "half as float32": NORMAL.astype(np.float16).astype(np.float32),
    "map from ids to rows": np.where(np.arange(2400) % 7, np.int32(343), np.arange(2400, dtype=np.int32) // 7),
    "int8": np.rint(10 * NORMAL).astype(np.int8),
    "all zero": np.zeros((40, 60), np.float32),
    "with -0.0, infinity and NaN": np.asarray([-0.0, 0.0, np.inf, -np.inf, np.nan] * 480, np.float32).reshape(40, 60),
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("name", ENCODINGS)
def test_bits_come_back_when_decoded(name: str, kind: str) -> None:
    contents = Contents("w", TENSORS[kind])
    encoded = ENCODINGS[name](contents, 13)
    if encoded is None:
        pytest.skip("refused, as an encoding may")

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    file = decoder_file(encoded, 13, ir_version=8)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (decoded,) = session.run(None, {})

    assert (decoded.dtype, decoded.shape) == (contents.values.dtype, contents.values.shape)
    np.testing.assert_array_equal(Contents("w", decoded).bits, contents.bits)


def test_dense_accepts_everything_when_asked() -> None:
    assert all(ENCODINGS["dense"](Contents("w", values), 9) is not None for values in TENSORS.values())


@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings_know_nothing_of_each_other(name: str) -> None:
    tree = ast.parse(Path(encodings.__path__[0], f"{name}.py").read_text())
    taken = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]

    for node in taken:
        names = {str(node.module).rpartition(".")[2], *(alias.name for alias in node.names)}
        assert not names & set(ENCODINGS), f"{name} imports {names & set(ENCODINGS)}"
