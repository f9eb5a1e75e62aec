"""ONNX's own node cases over the executor: every dense numeric case of the standard domain, the exceptions by name."""

import functools

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx.backend.test.case.test_case import TestCase as NodeCase

from app.errors import ModelpressError
from tests.conformance import node_cases
from workers.compute.autograd.executor import Executor
from workers.compute.graph.model import Model

PICTURES = "decodes a compressed picture; pictures are decoded before the model"
LAST_PLACES = "one element in 192 is two last places of bfloat16 from the reference, which rounds after every step"
EXCEPTIONS = {
    "test_attention_4d_causal_bf16": LAST_PLACES,
    "test_attention_4d_causal_bf16_expanded": LAST_PLACES,
    "test_image_decoder_decode_bmp_rgb": PICTURES,
    "test_image_decoder_decode_jpeg2k_rgb": PICTURES,
    "test_image_decoder_decode_jpeg_bgr": PICTURES,
    "test_image_decoder_decode_jpeg_grayscale": PICTURES,
    "test_image_decoder_decode_jpeg_rgb": PICTURES,
    "test_image_decoder_decode_png_rgb": PICTURES,
    "test_image_decoder_decode_pnm_rgb": PICTURES,
    "test_image_decoder_decode_tiff_rgb": PICTURES,
    "test_image_decoder_decode_webp_rgb": PICTURES,
}
# Their expected values are draws of numpy's generator. Dropout is identity here by intention, also in training mode.
RANDOM = (
    "test_bernoulli",
    "test_bernoulli_double",
    "test_bernoulli_double_expanded",
    "test_bernoulli_expanded",
    "test_bernoulli_seed",
    "test_bernoulli_seed_expanded",
    "test_training_dropout",
    "test_training_dropout_default",
    "test_training_dropout_default_mask",
    "test_training_dropout_mask",
)
# Cases whose arrays PyTorch takes from numpy as they are: 1,616 with onnx 1.23. Older releases have fewer cases.
NATIVE_FLOOR = 1580


def outputs_of(case: NodeCase) -> list[tuple[torch.Tensor, object]]:
    """Run a case in its own types; return what came out beside what is expected."""
    executor = Executor(Model(ir.from_proto(case.model)), trainable=False, dtype=torch.float16).eval()
    pairs = []
    for arrays, expected in case.data_sets:
        got = executor(node_cases.inputs_of(case, arrays))
        pairs += [(got[value.name], array) for value, array in zip(case.model.graph.output, expected, strict=True)]
    return pairs


def failure(case: NodeCase) -> str | None:
    try:
        for got, expected in outputs_of(case):
            node_cases.check(case, got, expected)
    except (ModelpressError, AssertionError, KeyError) as fault:
        return f"{type(fault).__name__}: {fault}"
    return None


@functools.cache
def cases() -> dict[str, NodeCase]:
    return {case.name: case for case in node_cases.dense_cases()}


@functools.cache
def failures() -> dict[str, str]:
    """Run every case that is not random; some of them convert NaN, of which numpy warns."""
    with np.errstate(invalid="ignore"):
        found = {name: failure(case) for name, case in cases().items() if name not in RANDOM}
    return {name: reason for name, reason in found.items() if reason is not None}


def test_every_case_passes_that_is_not_listed() -> None:
    assert {name: reason for name, reason in failures().items() if name not in EXCEPTIONS} == {}


def test_every_listed_exception_still_fails() -> None:
    assert [name for name in EXCEPTIONS if name not in failures()] == []


def test_enough_of_the_cases_pass_that_other_converters_are_counted_by() -> None:
    native = [name for name, case in cases().items() if node_cases.is_native(case) and name not in RANDOM]
    assert len([name for name in native if name not in failures()]) >= NATIVE_FLOOR


@pytest.mark.parametrize("name", RANDOM)
def test_random_case_yields_the_right_shapes_and_types(name: str) -> None:
    for got, expected in outputs_of(cases()[name]):
        wanted = node_cases.tensor(expected)
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
