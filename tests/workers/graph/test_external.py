"""Models of 2 GiB and more, with the limit lowered so that a test can afford them."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from tests.workers.graph.networks import Kind, Network, cnn
from workers.compute.graph import external
from workers.compute.graph import model as module
from workers.compute.graph.model import Model, load, save


@pytest.fixture(autouse=True)
def _low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10_000)


def wide(size: int = 600) -> Model:
    """Two products of which each has a weight over 1 MiB, and a small shape between them."""
    net = Network(17)
    x = net.given("x", Kind.FLOAT, ["batch", size])
    hidden = net.add("first", "MatMul", x, net.weight("first.w", size, size))
    hidden = net.add("shaped", "Reshape", hidden, net.numbers("shape", -1, size))
    narrow = net.add("narrow", "MatMul", hidden, net.weight("narrow.w", size, 3))
    back = net.add("back", "MatMul", narrow, net.weight("back.w", 3, size))
    return net.model(net.add("second", "MatMul", back, net.weight("second.w", size, size)), ["batch", size])


def spans(path: Path) -> dict[str, tuple[str, int, int]]:
    found = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        if tensor.external_data:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            found[tensor.name] = (entries["location"], int(entries["offset"]), int(entries["length"]))
    return found


def test_runtime_and_checker_read_the_two_files_when_saved(tmp_path: Path) -> None:
    model = wide()
    save(model, tmp_path / "big.onnx")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]
    assert (tmp_path / "big.onnx").stat().st_size < 2_000
    onnx.checker.check_model(tmp_path / "big.onnx", full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "big.onnx", providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(0).normal(size=(2, 600)).astype(np.float32)
    expected = rows
    for name in ("first.w", "narrow.w", "back.w", "second.w"):
        expected = expected @ model.read(name)
    np.testing.assert_allclose(session.run(None, {"x": rows})[0], expected, rtol=1e-3, atol=1e-5)


def test_large_weights_begin_on_a_boundary_and_small_ones_stay_inside_when_saved(tmp_path: Path) -> None:
    save(wide(), tmp_path / "big.onnx")

    found = spans(tmp_path / "big.onnx")
    assert list(found) == ["first.w", "narrow.w", "back.w", "second.w"]
    assert all(location == "big.onnx.data" for location, _, _ in found.values())
    assert [offset % (1 << 16) for name, (_, offset, _) in found.items() if name in {"first.w", "second.w"}] == [0, 0]
    assert found["narrow.w"][1] == found["first.w"][2]
    assert found["narrow.w"][1] % 64 == found["back.w"][1] % 64 == 0


def test_bytes_are_the_same_when_saved_twice(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(wide(), tmp_path / folder / "big.onnx")

    for name in ("big.onnx", "big.onnx.data"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_weights_are_mapped_once_for_each_file_when_loaded(tmp_path: Path) -> None:
    save(wide(), tmp_path / "big.onnx")

    loaded = load(tmp_path / "big.onnx")

    maps = Path("/proc/self/maps").read_text("utf-8")
    assert maps.count(str(tmp_path / "big.onnx.data")) == 1
    for name in wide().weights():
        np.testing.assert_array_equal(loaded.read(name), wide().read(name))
        assert not loaded.read(name).flags.owndata
        assert not loaded.read(name).flags.writeable


def test_every_type_survives_when_saved_and_loaded(tmp_path: Path) -> None:
    kinds = ["FLOAT16", "BFLOAT16", "DOUBLE", "INT4", "UINT4", "INT2", "INT8", "UINT64", "BOOL"]
    model = wide()
    values = np.random.default_rng(2).integers(0, 2, (70, 133))
    for kind in kinds:
        tensor = ir.tensor(values.astype(Kind[kind].numpy()), dtype=Kind[kind], name=kind)
        model.graph.register_initializer(ir.Value(name=kind, const_value=tensor))

    save(model, tmp_path / "big.onnx")

    assert set(kinds) - set(spans(tmp_path / "big.onnx")) == set()
    loaded = load(tmp_path / "big.onnx")
    for kind in kinds:
        np.testing.assert_array_equal(loaded.read(kind).astype(np.int64), values, err_msg=kind)


def test_only_the_edited_weight_differs_when_saved_over_its_own_files(tmp_path: Path) -> None:
    save(wide(), tmp_path / "big.onnx")
    model, other = load(tmp_path / "big.onnx"), load(tmp_path / "big.onnx")
    model.write("narrow.w", np.ones((600, 3), np.float32))

    save(model, tmp_path / "big.onnx")

    again = load(tmp_path / "big.onnx")
    assert (again.read("narrow.w") == 1).all()
    for name in ("first.w", "back.w", "second.w"):
        np.testing.assert_array_equal(again.read(name), wide().read(name))
        np.testing.assert_array_equal(model.read(name), wide().read(name))
    np.testing.assert_array_equal(other.read("narrow.w"), wide().read("narrow.w"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]


def test_weights_return_into_the_file_when_a_smaller_model_takes_its_place(tmp_path: Path) -> None:
    save(wide(), tmp_path / "model.onnx")

    save(wide(12), tmp_path / "model.onnx")

    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_model_keeps_its_own_tensors_when_saved(tmp_path: Path) -> None:
    model = cnn()

    save(model, tmp_path / "big.onnx")

    assert not any(isinstance(value.const_value, ir.ExternalTensor) for value in model.graph.initializers.values())
    np.testing.assert_array_equal(model.read("head.w"), cnn().read("head.w"))


def test_misaligned_weights_are_read_when_another_writer_packed_them(tmp_path: Path) -> None:
    model = wide()
    proto = ir.serde.serialize_model(model.ir)
    content = b"\x00"
    for tensor in proto.graph.initializer:
        offset = len(content)
        content += tensor.raw_data
        for key, value in (("location", "w"), ("offset", offset), ("length", len(tensor.raw_data))):
            tensor.external_data.add(key=key, value=str(value))
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
    (tmp_path / "w").write_bytes(content)
    onnx.save(proto, tmp_path / "other.onnx")

    loaded = load(tmp_path / "other.onnx")

    for name in ("first.w", "shape"):
        assert loaded.read(name).flags.aligned
        np.testing.assert_array_equal(loaded.read(name), model.read(name))


def test_nothing_is_left_when_writing_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(external, "_written", full)

    with pytest.raises(OSError, match="No space"):
        save(wide(), tmp_path / "big.onnx")

    assert not list(tmp_path.iterdir())
