from collections.abc import Mapping
from fractions import Fraction

import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.graph.networks import bert, cnn
from workers.compute.graph.costs import cost, symbolic_macs
from workers.compute.graph.polynomials import NoPolynomial, Polynomial, fit

SYMBOLS = ("a", "b")
POINTS = ((1, 2, 3), (4, 8, 12, 20))
terms = st.dictionaries(
    st.tuples(st.integers(0, 1), st.integers(0, 2)), st.integers(-(10**12), 10**12).filter(bool).map(Fraction)
)


@given(terms=terms)
def test_fit_returns_the_polynomial_that_was_evaluated(terms: Mapping[tuple[int, int], Fraction]) -> None:
    known = Polynomial(SYMBOLS, terms)

    found = fit(SYMBOLS, POINTS, lambda sizes: int(known.at(dict(zip(SYMBOLS, sizes, strict=True)))))

    assert found == known


def test_fit_refuses_what_is_no_polynomial() -> None:
    with pytest.raises(NoPolynomial):
        fit(SYMBOLS, POINTS, lambda sizes: sizes[0] * 2 ** sizes[1])


def test_fit_refuses_a_function_that_has_no_value() -> None:
    with pytest.raises(NoPolynomial):
        fit(SYMBOLS, POINTS, lambda sizes: None if sizes[1] == 8 else 1)


WRITTEN = {
    "0": {},
    "5": {(0, 0): 5},
    "3*a": {(1, 0): 3},
    "a*(7 + 2*b + 3072*b^2)": {(1, 0): 7, (1, 1): 2, (1, 2): 3072},
    "b*(4 - 2*a)": {(0, 1): 4, (1, 1): -2},
    "1.235e9*a*b^2": {(1, 2): 1_234_567_890},
    "0.5*b": {(0, 1): Fraction(1, 2)},
}


@pytest.mark.parametrize("text", WRITTEN)
def test_polynomial_is_written_with_its_common_symbols_in_front(text: str) -> None:
    given_terms = {exponents: Fraction(factor) for exponents, factor in WRITTEN[text].items()}

    assert str(Polynomial(SYMBOLS, given_terms)) == text


def test_macs_of_attention_are_a_polynomial_in_rows_and_tokens() -> None:
    width, hidden = 16, 48
    found = symbolic_macs(bert(2))

    linear, square = 2 * (4 * width * width + 2 * width * hidden), 2 * 2 * width
    assert str(found) == f"batch*({width * width + width * 3} + {linear}*tokens + {square}*tokens^2)"


@pytest.mark.parametrize("tokens", [1, 7, 30])
def test_symbolic_macs_are_those_of_each_length(tokens: int) -> None:
    model, found = bert(3), symbolic_macs(bert(3))

    assert found is not None
    assert found.at({"batch": 1, "tokens": tokens}) == cost(model, {"tokens": tokens}).macs


def test_symbolic_macs_are_in_rows_alone_when_all_else_is_fixed() -> None:
    assert str(symbolic_macs(cnn())) == f"{cost(cnn()).macs}*batch"


def test_symbolic_macs_of_an_image_of_any_size_hold_at_multiples_of_32() -> None:
    model = cnn()
    model.graph.inputs[0].shape = ir.Shape(["batch", 1, "height", "width"])

    found = symbolic_macs(model)

    assert found is not None
    assert found.at({"batch": 1, "height": 64, "width": 96}) == cost(model, {"height": 64, "width": 96}).macs


def test_symbolic_macs_are_none_when_there_are_too_many_free_dimensions() -> None:
    model = cnn()
    model.graph.inputs[0].shape = ir.Shape(["one", "two", "three", "four", "five"])

    assert symbolic_macs(model) is None
