from pathlib import Path

import onnx
import onnx_ir
import pytest

from tests.workers.graph.networks import bert
from workers.compute.graph.costs import cost
from workers.compute.graph.model import FLOATS, save
from workers.compute.importers.summary import spec_of, summarize
from workers.compute.measuring import sized
from workers.compute.report import changes


def test_costs_are_told_in_figures_and_in_free_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(bert(2), path)

    summary = summarize(path, path, onnx.load(path), classes=[], has_tokenizer=False)

    # A row is made up of 64 tokens where no data set says otherwise; the position table has 32 rows.
    assert summary.macs_formula == "batch*(304 + 5120*tokens + 64*tokens^2)"


def test_activations_are_compared_when_a_model_became_smaller(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(bert(2), path)
    before, after = (sized(bert(layers), path, {"tokens": 8}) for layers in (2, 1))

    found = {change.figure: change for change in changes(before, after, {})}

    known = cost(bert(2), {"tokens": 8})
    assert (before.activation_bytes, before.peak_activation_bytes) == (
        known.activation_bytes,
        known.peak_activation_bytes,
    )
    assert after.activation_bytes is not None
    assert after.activation_bytes < (before.activation_bytes or 0)
    assert found["peak_activation_bytes"].before == known.peak_activation_bytes


@pytest.mark.parametrize("kind", [kind for kind in onnx.TensorProto.DataType.values() if kind])
def test_a_summary_tells_which_inputs_have_values_in_between(kind: int) -> None:
    spec = spec_of(onnx.helper.make_tensor_value_info("x", kind, ["batch"]))
    assert spec.floating == (onnx_ir.DataType(kind) in FLOATS)
