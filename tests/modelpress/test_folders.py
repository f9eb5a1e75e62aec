import os
import zipfile
from pathlib import Path

import pytest

from modelpress import InvalidInput
from modelpress.folders import holds_onnx, zip_folder


def folder(place: Path, *names: str) -> Path:
    place.mkdir()
    for name in names:
        (place / name).write_text(name)
    return place


def test_zip_folder_when_made_twice_at_other_times(tmp_path: Path) -> None:
    names = ("model.safetensors", "config.json", "tokenizer.json")
    first = zip_folder(folder(tmp_path / "a", *names), tmp_path / "a.zip")
    again = folder(tmp_path / "b", *reversed(names))
    for path in again.iterdir():
        os.utime(path, (0, 0))
        path.chmod(0o600)
    assert zip_folder(again, tmp_path / "b.zip").read_bytes() == first.read_bytes()


def test_zip_folder_when_it_also_holds_code_and_pickles(tmp_path: Path) -> None:
    source = folder(tmp_path / "m", "config.json", "model.safetensors", "pytorch_model.bin", "modeling.py", ".hidden")
    with zipfile.ZipFile(zip_folder(source, tmp_path / "m.zip")) as archive:
        assert archive.namelist() == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("names", "said"), [(("model.safetensors",), "config.json"), (("config.json", "pytorch_model.bin"), "safetensors")]
)
def test_zip_folder_when_something_is_missing(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        zip_folder(folder(tmp_path / "m", *names), tmp_path / "m.zip")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("net/model.onnx", "net/model.onnx_data"), True),
        (("MODEL.ONNX",), True),
        (("config.json", "model.safetensors"), False),
        (("config.json", "model.safetensors", "onnx/model.onnx"), False),
    ],
)
def test_holds_onnx_when_a_zip_has_these_members(tmp_path: Path, names: tuple[str, ...], expected: bool) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    assert holds_onnx(tmp_path / "m.zip") is expected


def test_holds_onnx_when_the_file_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / "m.zip").write_text("text")
    assert not holds_onnx(tmp_path / "m.zip")
