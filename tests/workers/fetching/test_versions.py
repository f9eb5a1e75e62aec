"""What is read of a version's MLmodel, and which of its files make the model."""

import pytest

from app.errors import SourceRefused
from workers.fetching.versions import chosen, onnx_data
from workers.registry import Listed

WRITTEN = """\
artifact_path: mlflow-artifacts:/1/models/m-1/artifacts
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_version: 1.23.2
    providers:
    - CPUExecutionProvider
  python_function:
    data: other.onnx
    env:
      conda: conda.yaml
mlflow_version: 3.17.2
"""
BESIDE = ["MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json", "registered_model_meta"]


def listed(*names: str) -> dict[str, Listed]:
    return {name: Listed(name, 1) for name in (*names, *BESIDE)}


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (WRITTEN, "model.onnx"),
        (WRITTEN.replace("data: model.onnx", "data: 'deep/my model.onnx'"), "deep/my model.onnx"),
        (WRITTEN.replace("  onnx:\n", "  sklearn:\n"), None),
        ("", None),
        ("onnx:\n    data: x.onnx\n", None),
        ("flavors: {onnx: {data: x.onnx}}\n", None),
    ],
)
def test_the_onnx_flavours_file_is_found(written: str, path: str | None) -> None:
    assert onnx_data(written) == path


def test_flavours_stand_in_any_order() -> None:
    head, _, tail = WRITTEN.partition("  onnx:\n")
    onnx, _, python = tail.partition("  python_function:\n")
    fields, _, rest = python.partition("mlflow_version")
    turned = f"{head}  python_function:\n{fields}  onnx:\n{onnx}mlflow_version{rest}"
    assert onnx_data(turned) == "model.onnx"


@pytest.mark.parametrize("path", ["../m.onnx", "/etc/m.onnx", "a/../../m.onnx"])
def test_a_file_outside_of_the_version_is_refused(path: str) -> None:
    with pytest.raises(SourceRefused, match="outside"):
        onnx_data(WRITTEN.replace("model.onnx", path))


def test_weights_beside_the_file_belong_to_it() -> None:
    found = chosen("model.onnx", listed("model.onnx", "ab-12.data", "0f3e"))
    assert [one.path for one in found] == ["model.onnx", "0f3e", "ab-12.data"]


def test_a_file_alone_stays_alone() -> None:
    assert [one.path for one in chosen("model.onnx", listed("model.onnx"))] == ["model.onnx"]


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(SourceRefused, match="not there"):
        chosen("gone.onnx", listed("model.onnx"))
