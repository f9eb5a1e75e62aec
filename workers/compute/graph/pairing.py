"""Which inner values of a student answer to which of its teacher: residual streams and attention. Knows no losses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from workers.compute.graph.model import Model
from workers.compute.graph.spans import Span, spans

# Between the softmax and the product with the values, these change no number in what is served.
_PASS_THROUGH = frozenset({"Cast", "Dropout", "Identity"})

Names = tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """A value of the student, one of the teacher, and the places they have among their like, from 0."""

    student: str
    teacher: str
    places: tuple[int, int]


@dataclass(frozen=True)
class Pairs:
    """The joints between layers (place 0 enters the first one), and the attention probabilities inside layers."""

    hidden: tuple[Pair, ...] = ()
    attention: tuple[Pair, ...] = ()


def pairs_of(student: Model, teacher: Model, *, related: bool) -> Pairs:
    """Pair what a student and its teacher compute between and inside their layers.

    A `related` student is the teacher without some layers, whose values kept their names: those belong together.
    Other students' layers are spread evenly over the teacher's (Jiao et al., 2020): layer i of n to round(i · m / n)
    of m. Models without layers have no pairs.
    """
    found = spans(teacher)
    taught = _joints(teacher, found), _attentions(teacher, found)
    known = {str(value.name) for node in student.graph for value in node.outputs}
    kept = [tuple(name for name in names if name in known) for names in taught]
    if related and len(kept[0]) > 1:
        return Pairs(_by_name(kept[0], taught[0]), _by_name(kept[1], taught[1]))
    own = spans(student)
    return Pairs(
        _spread(_joints(student, own), taught[0], _joint),
        _spread(_attentions(student, own), taught[1], _layer),
    )


def _joints(model: Model, found: Sequence[Span]) -> Names:
    """Return what enters and leaves layers, in order; graph inputs are nothing to learn."""
    given = {value.name for value in model.graph.inputs}
    names = dict.fromkeys(name for span in found for name in (span.entry, span.exit))
    return tuple(name for name in names if name not in given)


def _attentions(model: Model, found: Sequence[Span]) -> Names:
    """Return the results of a softmax that a product reads inside the layers."""
    inside = {name for span in found for name in span.inside}
    return tuple(
        str(node.outputs[0].name)
        for node in model.graph
        if node.op_type == "Softmax" and node.outputs[0].name in inside and _is_multiplied(node.outputs[0])
    )


def _is_multiplied(value: ir.Value) -> bool:
    nodes = [use.node for use in value.uses()]
    return any(
        node.op_type == "MatMul" or (node.op_type in _PASS_THROUGH and _is_multiplied(node.outputs[0]))
        for node in nodes
    )


def _by_name(own: Names, others: Names) -> tuple[Pair, ...]:
    return tuple(Pair(name, name, (place, others.index(name))) for place, name in enumerate(own))


def _spread(own: Names, others: Names, place_of: Callable[[int, int, int], int]) -> tuple[Pair, ...]:
    if not others:
        return ()
    places = [(place, place_of(place, len(own), len(others))) for place in range(len(own))]
    return tuple(Pair(own[place], others[other], (place, other)) for place, other in places)


def _joint(place: int, count: int, others: int) -> int:
    """Return the teacher's joint for joint `place` of `count`, the first to the first and the last to the last."""
    return _rounded(place * (others - 1), count - 1)


def _layer(place: int, count: int, others: int) -> int:
    """Return the teacher's layer for layer `place` of `count`, the last to the last."""
    return max(_rounded((place + 1) * others, count) - 1, 0)


def _rounded(number: int, by: int) -> int:
    return (2 * number + by) // (2 * by)
