"""A model that takes another's place has its inputs and outputs, to the letter."""

import onnx_ir as ir

from app.contracts.interface import difference
from tests.workers.graph.networks import answers, bert, rows_for
from workers.compute.graph.interfaces import interface_of, stood_in
from workers.compute.graph.model import Model


def renamed(model: Model) -> Model:
    """Return a copy whose free axes are `n` and `length`, on an inner value too."""
    found = model.clone()
    names = {"batch": "n", "tokens": "length"}
    for value in (*found.graph.inputs, *found.graph.outputs):
        value.shape = ir.Shape([names.get(getattr(axis, "value", ""), axis) for axis in value.shape or ()])
    next(node for node in found.graph if node.name == "words").outputs[0].shape = ir.Shape(["n", "length", 16])
    return found


def test_free_axes_take_the_names_of_the_model() -> None:
    model, student = bert(2), renamed(bert(1))

    found = stood_in(student, model)

    assert interface_of(found) == interface_of(model)
    assert [str(axis) for axis in next(node for node in found.graph if node.name == "words").outputs[0].shape] == [
        "batch",
        "tokens",
        "16",
    ]
    rows = rows_for(model, 4)
    assert (answers(found, rows) == answers(student, rows)).all()
    assert interface_of(student).inputs[0].shape == ["n", "length"]


def test_interface_is_compared_by_name_type_and_shape() -> None:
    assert difference(interface_of(bert(2)), interface_of(renamed(bert(1)))) is None
    assert interface_of(bert(1)).inputs[0].dtype == "int64"
