"""Whatever an encoding accepts comes back from ONNX Runtime bit for bit."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workers.compute.encodings import ENCODINGS, digits
from workers.compute.encodings.base import Array, Contents, Encoded
from workers.compute.encodings.packer import decoder_file

DTYPES = ("float32", "float16", "float64", "int8", "uint8")
shapes = arrays.array_shapes(min_dims=0, max_dims=4, max_side=9)


@st.composite
def tensors(draw: st.DrawFn) -> Array:
    """Tensors of every bit pattern, of few values, and of mostly zeros: those that encodings are made for."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(shapes)
    values = draw(arrays.arrays(dtype, draw(st.integers(1, 40)), elements=arrays.from_dtype(dtype)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    tensor = values[random.integers(0, values.size, shape)]
    zeros = random.random(shape) < draw(st.sampled_from([0, 0.3, 0.9, 0.99]))
    return np.where(zeros, np.zeros((), dtype), tensor)


def decode(encoded: Encoded, opset: int) -> Array:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    file = decoder_file(encoded, opset, ir_version=8)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    decoded: Array = session.run(None, {})[0]
    return decoded


@pytest.mark.parametrize("opset", [9, 11, 13, 21])
@pytest.mark.parametrize("name", sorted(set(ENCODINGS) - {"dense"}))
@given(values=tensors())
@settings(max_examples=60, deadline=None)
def test_bits_come_back_when_decoded(name: str, opset: int, values: Array) -> None:
    contents = Contents("w", values)
    encoded = ENCODINGS[name](contents, opset)
    if encoded is None:
        return

    decoded = decode(encoded, opset)

    assert decoded.dtype == values.dtype
    assert decoded.shape == values.shape
    np.testing.assert_array_equal(Contents("w", decoded).bits, contents.bits)


@given(base=st.integers(2, 256), count=st.integers(1, 5000))
def test_layout_holds_every_value_when_chosen(base: int, count: int) -> None:
    layout = digits.best_layout(base, count)

    assert base**layout.digits <= 256**layout.width
    assert layout.size(count) <= count
    assert layout.size(count) * 8 >= count * np.log2(base) - 1e-6


@pytest.mark.parametrize("density", [0.5, 0.2, 0.1, 0.03, 0.01, 0.002])
@pytest.mark.parametrize("opset", [11, 21])
def test_wide_gaps_are_bridged_when_zeros_run_long(density: float, opset: int) -> None:
    random = np.random.default_rng(3)
    values = np.where(random.random((300, 301)) < density, random.normal(size=(300, 301)), 0).astype(np.float32)
    values[100:200] = 0
    encoded = ENCODINGS["sparse"](Contents("w", values), opset)
    assert encoded is not None

    np.testing.assert_array_equal(decode(encoded, opset), values)


@pytest.mark.parametrize("clusters", [2, 3, 5, 6, 16, 17, 32, 256])
@pytest.mark.parametrize("opset", [9, 13])
def test_bits_come_back_when_the_tensor_is_large(clusters: int, opset: int) -> None:
    random = np.random.default_rng(clusters)
    values = random.normal(size=clusters).astype(np.float32)[random.integers(0, clusters, (301, 303))]
    encoded = ENCODINGS["codebook"](Contents("w", values), opset)
    assert encoded is not None

    np.testing.assert_array_equal(decode(encoded, opset), values)


def test_negative_zero_is_kept_when_sparse() -> None:
    values = np.zeros((64, 64), np.float32)
    values[3, 4], values[5, 6] = -0.0, 1
    encoded = ENCODINGS["sparse"](Contents("w", values), 13)
    assert encoded is not None

    assert np.signbit(decode(encoded, 13)).sum() == 1


def test_sparse_refuses_when_operators_are_too_old() -> None:
    assert ENCODINGS["sparse"](Contents("w", np.eye(64, dtype=np.float32)), 10) is None


def test_codebook_refuses_when_values_are_many() -> None:
    assert ENCODINGS["codebook"](Contents("w", np.arange(257, dtype=np.float32)), 13) is None
