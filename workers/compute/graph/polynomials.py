"""Exact polynomials with rational coefficients, found from the values of a whole-number function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

Exponents = tuple[int, ...]
Terms = Mapping[Exponents, Fraction]
# The function's value at one size for each symbol, None where it has none.
Evaluate = Callable[[tuple[int, ...]], int | None]

# Below this, a coefficient is written with all its digits.
_EXACT = 10**7


class NoPolynomial(Exception):
    """The function has no value at a point, or is no polynomial of these degrees."""


@dataclass(frozen=True)
class Polynomial:
    """A polynomial: coefficients, none of them zero, by the exponents of the symbols."""

    symbols: tuple[str, ...]
    terms: Terms

    def at(self, sizes: Mapping[str, int]) -> Fraction:
        """Return the value where every symbol has the size given."""
        values = [sizes[symbol] for symbol in self.symbols]
        return sum((factor * _power(values, exponents) for exponents, factor in self.terms.items()), Fraction(0))

    def __str__(self) -> str:
        """Write as `batch*(1204224*tokens + 3072*tokens^2)`, with the symbols that are in all terms in front."""
        if not self.terms:
            return "0"
        shared = tuple(min(exponents) for exponents in zip(*self.terms, strict=True))
        rest = {
            tuple(one - other for one, other in zip(exponents, shared, strict=True)): factor
            for exponents, factor in self.terms.items()
        }
        ordered = sorted(rest.items(), key=lambda term: (sum(term[0]), term[0]))
        inner = " + ".join("*".join([_number(factor), *self._symbols(each)]) for each, factor in ordered)
        outer = self._symbols(shared)
        if not outer:
            return inner.replace("+ -", "- ")
        inner = f"({inner})" if len(rest) > 1 else inner
        return "*".join([*outer, inner] if len(rest) > 1 else [inner, *outer]).replace("+ -", "- ")

    def _symbols(self, exponents: Exponents) -> list[str]:
        pairs = zip(self.symbols, exponents, strict=True)
        return [symbol if power == 1 else f"{symbol}^{power}" for symbol, power in pairs if power]


def _power(values: Sequence[int], exponents: Exponents) -> int:
    found = 1
    for value, exponent in zip(values, exponents, strict=True):
        found *= value**exponent
    return found


def _number(factor: Fraction) -> str:
    if factor.denominator == 1 and abs(factor) < _EXACT:
        return str(factor)
    mantissa, _, exponent = f"{float(factor):.4g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def fit(symbols: Sequence[str], points: Sequence[Sequence[int]], evaluate: Evaluate) -> Polynomial:
    """Return the polynomial through a function's values on the grid of `points`, some sizes for each symbol.

    With n sizes a symbol has a degree of n - 2 at most: the last size of each is not needed and must agree.
    Raises NoPolynomial where it does not, or where the function has no value.
    """
    terms = _terms([list(sizes[:-1]) for sizes in points], (), evaluate)
    found = Polynomial(tuple(symbols), {exponents: factor for exponents, factor in terms.items() if factor})
    check = tuple(sizes[-1] for sizes in points)
    if found.at(dict(zip(symbols, check, strict=True))) != evaluate(check):
        raise NoPolynomial
    return found


def _terms(points: list[list[int]], fixed: tuple[int, ...], evaluate: Evaluate) -> dict[Exponents, Fraction]:
    """Interpolate in the first symbol the polynomials in the others."""
    if not points:
        value = evaluate(fixed)
        if value is None:
            raise NoPolynomial
        return {(): Fraction(value)}
    own, *others = points
    slices = [_terms(others, (*fixed, size), evaluate) for size in own]
    found = {}
    for exponents in {key for part in slices for key in part}:
        values = [part.get(exponents, Fraction(0)) for part in slices]
        for power, factor in enumerate(_coefficients(own, values)):
            found[power, *exponents] = factor
    return found


def _coefficients(points: list[int], values: list[Fraction]) -> list[Fraction]:
    """Return the coefficients, lowest power first, by Newton's divided differences."""
    differences = list(values)
    for step in range(1, len(points)):
        for at in range(len(points) - 1, step - 1, -1):
            differences[at] = (differences[at] - differences[at - 1]) / (points[at] - points[at - step])
    found = [Fraction(0)] * len(points)
    for point, difference in zip(reversed(points), reversed(differences), strict=True):
        # found = found · (x - point) + difference
        shifted = [Fraction(0), *found[:-1]]
        found = [high - point * low for high, low in zip(shifted, found, strict=True)]
        found[0] += difference
    return found
