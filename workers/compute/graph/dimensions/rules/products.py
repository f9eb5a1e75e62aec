"""Matrix products: the summed axis of one side is that of the other."""

from collections.abc import Sequence

from workers.compute.graph.dimensions.ledger import Axis, Labels
from workers.compute.graph.dimensions.site import Rule, Site


def _matmul(site: Site) -> Sequence[Labels | None]:
    left, right, wide, tall = site.input(0), site.input(1), site.size(0), site.size(1)
    if not left or not right or not wide or not tall:
        return site.barrier()
    site.contract(left[-1], right[-2:][0], weighted=site.is_weight(0) or site.is_weight(1))
    batch = site.broadcast((left[:-2], right[:-2]), (wide[:-2], tall[:-2]))
    rows, columns = left[-2:-1], right[-1:] if len(right) > 1 else ()
    return [(*batch, *rows, *columns)]


def _gemm(site: Site) -> Sequence[Labels | None]:
    left, right, bias = site.input(0), site.input(1), site.input(2)
    if left is None or right is None or (bias is None and site.given(2) is not None):
        return site.barrier()
    left = left[::-1] if site.integer("transA", 0) else left
    right = right[::-1] if site.integer("transB", 0) else right
    site.contract(left[1], right[0], weighted=site.is_weight(0) or site.is_weight(1))
    found: Labels = (left[0], right[1])
    size, added = site.output_size(), site.size(2)
    return [found if bias is None or size is None or added is None else site.broadcast((found, bias), (size, added))]


def _einsum(site: Site) -> Sequence[Labels | None]:
    """Couple the axes of one letter; letters that the result lacks are summed over."""
    equation = site.node.attributes["equation"].as_string().replace(" ", "")
    terms, arrow, result = equation.partition("->")
    letters = terms.split(",")
    labels = [site.input(index) for index in range(len(letters))]
    sizes = [site.size(index) for index in range(len(letters))]
    if "." in equation or not arrow or None in labels or None in sizes:
        return site.barrier()
    met: dict[str, list[tuple[Axis, int]]] = {}
    for term, axes, size in zip(letters, labels, sizes, strict=True):
        for letter, axis, length in zip(term, axes or (), size or (), strict=True):
            met.setdefault(letter, []).append((axis, length))
    joined = {letter: site.join(axis for axis, length in axes if length != 1) for letter, axes in met.items()}
    if not any(site.is_weight(index) for index in range(len(letters))):
        for letter in joined.keys() - set(result):
            site.ledger.normalize(joined[letter], site.title)
    return [tuple(joined[letter] for letter in result)]


RULES: dict[str, Rule] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
}
