"""The runner catches a technique that breaks a promise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.errors import ServiceFault
from tests.workers.compute.orders import mlp
from workers.compute import promises
from workers.compute.graph.constraints import Mask
from workers.compute.graph.model import Model, load, save


def rename_input(model: Model) -> None:
    model.graph.inputs[0].name = "other"


def drop_output(model: Model) -> None:
    model.graph.outputs.clear()


def leave_nan(model: Model) -> None:
    values = model.read("w1").copy()
    values[0, 0] = np.nan
    model.write("w1", values)


def break_mask(model: Model) -> None:
    model.constraints["w1"] = Mask(np.zeros((64, 96), bool))


def orphan_constraint(model: Model) -> None:
    model.constraints["gone"] = Mask(np.zeros((1,), bool))


def invalid_node(model: Model) -> None:
    model.graph.node(0).op_type = "Frobnicate"


BROKEN: dict[str, tuple[Callable[[Model], None], str]] = {
    "input renamed": (rename_input, "inputs"),
    "output dropped": (drop_output, "outputs"),
    "NaN": (leave_nan, "NaN"),
    "mask": (break_mask, "'zeros'"),
    "orphan": (orphan_constraint, "no weight"),
    "operator": (invalid_node, "not valid ONNX"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_promise_is_named(name: str, tmp_path: Path) -> None:
    harm, told = BROKEN[name]
    before = load(mlp(tmp_path / "m.onnx"))
    after = load(tmp_path / "m.onnx")
    harm(after)
    save(after, tmp_path / "after.onnx")
    with pytest.raises(ServiceFault, match=told):
        promises.check(before, after, tmp_path / "after.onnx")


def test_kept_constraints_are_counted(tmp_path: Path) -> None:
    before = load(mlp(tmp_path / "m.onnx"))
    after = before.clone()
    kept = np.abs(after.read("w1")) > 0.3
    after.write("w1", np.where(kept, after.read("w1"), 0).astype(np.float32))
    after.constraints["w1"] = Mask(kept)
    save(after, tmp_path / "after.onnx")
    assert promises.check(before, after, tmp_path / "after.onnx") == {"zeros": 1}
