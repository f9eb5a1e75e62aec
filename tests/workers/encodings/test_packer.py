from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.workers.encodings.graphs import READERS, Level, optimized, run, serialized, single
from tests.workers.graph.networks import answers, bert, rows_for
from workers.compute.encodings import packer
from workers.compute.encodings.packer import pack
from workers.compute.graph.readers import matrices

Float = NDArray[np.float32]


def shared(shape: tuple[int, ...], clusters: int) -> Float:
    random = np.random.default_rng(clusters)
    return random.normal(size=clusters).astype(np.float32)[random.integers(0, clusters, shape)]


def pruned(values: Float, density: float) -> Float:
    return np.where(np.random.default_rng(1).random(values.shape) < density, values, np.float32(0))


def dense(shape: tuple[int, ...]) -> Float:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def contents(kind: str, shape: tuple[int, ...]) -> Float:
    name, number = kind.split()
    if name == "shared":
        return shared(shape, int(number))
    return pruned(dense(shape) if name == "sparse" else shared(shape, 15), float(number))


@pytest.mark.parametrize("opset", [9, 13, 22])
@pytest.mark.parametrize("operator", READERS)
@pytest.mark.parametrize("kind", ["shared 2", "shared 3", "shared 17", "shared 32", "shared 200"])
def test_codebook_folds_away_when_the_file_is_loaded(kind: str, operator: str, opset: int, tmp_path: Path) -> None:
    packed = pack(single(operator, contents(kind, READERS[operator]), opset))

    graph = optimized(packed.model, tmp_path)

    assert packed.tensors[0].encoding == "codebook"
    assert [node.op_type for node in graph.node] == [operator]


@pytest.mark.parametrize("opset", [11, 13, 22])
@pytest.mark.parametrize("operator", READERS)
@pytest.mark.parametrize("kind", ["sparse 0.5", "sparse 0.05", "both 0.3", "both 0.05"])
def test_sparse_folds_away_when_the_file_is_loaded(kind: str, operator: str, opset: int, tmp_path: Path) -> None:
    packed = pack(single(operator, contents(kind, READERS[operator]), opset))

    graph = optimized(packed.model, tmp_path)

    assert packed.tensors[0].encoding == "sparse"
    assert [node.op_type for node in graph.node] == [operator]


def gridded(kind: str, shape: tuple[int, ...]) -> Float:
    """Return weights for which the encoding named by `kind` is the smallest."""
    random = np.random.default_rng(4)
    scales = (0.1 + random.random(shape)).astype(np.float32)
    if kind == "row_scales":
        return (random.integers(-1, 2, shape) * scales[(slice(None), *(slice(1),) * (len(shape) - 1))]).astype(
            np.float32
        )
    if kind == "block_scales":
        numbers = random.integers(-7, 8, shape).astype(np.float32)
        return numbers * np.repeat(scales[: shape[0] // 32], 32, axis=0)
    if kind == "block_codebooks":
        axis = 0 if len(shape) > 2 else 1
        width = int(np.prod(shape)) // shape[axis]
        blocks = [random.normal(size=15)[random.integers(0, 15, (16, width))] for _ in range(0, shape[axis], 16)]
        rows = np.concatenate(blocks).astype(np.float32)
        turned = rows[: shape[axis]].reshape(shape[axis], *np.delete(shape, axis))
        return np.ascontiguousarray(np.moveaxis(turned, 0, axis))
    if kind == "repeated_rows":
        return dense(shape)[random.integers(0, shape[0] // 6, shape[0])]
    return dense(shape).astype(np.float16).astype(np.float32)


GRIDDED = {"MatMul": (96, 63), "Gemm": (96, 63), "Conv": (96, 17, 3, 3), "Gather": (224, 33)}


@pytest.mark.parametrize("level", [Level.ORT_ENABLE_BASIC, Level.ORT_ENABLE_ALL])
@pytest.mark.parametrize("opset", [9, 13, 22])
@pytest.mark.parametrize("operator", GRIDDED)
@pytest.mark.parametrize("kind", ["row_scales", "block_scales", "repeated_rows", "halves", "block_codebooks"])
def test_grid_is_found_and_folds_away_when_the_file_is_loaded(
    kind: str, operator: str, opset: int, level: Level, tmp_path: Path
) -> None:
    model = single(operator, gridded(kind, GRIDDED[operator]), opset)

    packed = pack(model)

    assert packed.tensors[0].encoding == kind
    assert [node.op_type for node in optimized(packed.model, tmp_path, level).node] == [operator]


@pytest.mark.parametrize("level", [Level.ORT_ENABLE_BASIC, Level.ORT_ENABLE_ALL])
@pytest.mark.parametrize("kind", ["codebook", "sparse", "ranks"])
def test_nothing_is_decoded_in_a_call_when_the_file_is_loaded(kind: str, level: Level, tmp_path: Path) -> None:
    numbered = np.random.default_rng(0).random(9000) < 0.3
    tables: dict[str, NDArray[np.generic]] = {
        "codebook": shared((300, 301), 24),
        "sparse": contents("both 0.05", (300, 301)),
        "ranks": np.where(numbered, np.cumsum(numbered) - 1, -1),
    }

    packed = pack(single("Gather", tables[kind], 11))

    assert packed.tensors[0].encoding == kind
    assert [node.op_type for node in optimized(packed.model, tmp_path, level).node] == ["Gather"]


def test_ternary_rows_take_ternary_digits_when_each_has_its_scale() -> None:
    report = pack(single("MatMul", gridded("row_scales", (384, 1536)))).tensors[0]

    assert 1.6 < report.bits_per_weight < 1.65


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("point", [0, 3, 100])
def test_zero_point_is_the_background_when_integers_are_sparse(point: int, dtype: type[np.int8 | np.uint8]) -> None:
    random = np.random.default_rng(0)
    values = np.where(random.random((200, 300)) < 0.1, random.integers(1, 127, (200, 300)), point).astype(dtype)

    report = pack(single("Gather", values)).tensors[0]

    assert report.encoding == "sparse"
    assert report.bits_per_weight < 1.6


@pytest.mark.parametrize("kind", ["shared 16", "sparse 0.1", "both 0.1"])
def test_answers_are_the_same_when_packed(kind: str) -> None:
    model = single("MatMul", contents(kind, (64, 64)))
    x = dense((3, 64))

    packed = pack(model)

    assert packed.tensors[0].encoding != "dense"
    np.testing.assert_array_equal(run(packed.model, x), run(model, x))


@pytest.mark.parametrize(("clusters", "bits"), [(2, 1), (3, 1.6), (4, 2), (8, 3), (16, 4), (32, 5), (64, 6), (128, 7)])
def test_weights_take_the_bits_of_their_clusters_when_shared(clusters: int, bits: float) -> None:
    report = pack(single("MatMul", shared((512, 512), clusters))).tensors[0]

    assert bits <= report.bits_per_weight < bits + 0.07
    assert report.unique_values == clusters


def test_size_is_near_the_entropy_when_sparse_and_shared() -> None:
    report = pack(single("MatMul", contents("both 0.1", (512, 512)))).tensors[0]

    assert report.entropy_bits_per_weight < report.bits_per_weight < 1.25 * report.entropy_bits_per_weight


def test_tensor_stays_dense_when_every_weight_differs() -> None:
    model = single("MatMul", dense((64, 64)))

    packed = pack(model)

    assert packed.tensors[0].encoding == "dense"
    assert packed.tensors[0].packed_bytes == packed.tensors[0].dense_bytes == 64 * 64 * 4
    assert serialized(packed.model) == serialized(model)


def test_tensor_is_left_alone_when_it_is_small() -> None:
    assert pack(single("MatMul", np.zeros((15, 16), np.float32))).tensors == ()


def test_names_that_are_added_are_short_and_new_to_the_model() -> None:
    model = bert(layers=2)
    for name in matrices(model):
        model.write(name, contents("both 0.1", model.read(name).shape))
    before = onnx.load_from_string(serialized(model)).graph
    known = {name for node in before.node for name in (*node.input, *node.output)}
    assert any(name.startswith("a") for name in known)

    graph = onnx.load_from_string(serialized(pack(model).model)).graph

    added = {name for node in graph.node for name in (*node.input, *node.output)} - known
    assert len(added) > 40
    assert max(map(len, added)) <= 4
    assert not any(name.startswith(tuple(added)) for name in known)
    assert not any(node.name for node in graph.node if set(node.output) <= added)


@pytest.mark.parametrize("opset", [7, 8])
def test_tensor_stays_dense_when_the_operators_are_too_old_to_decode_it(opset: int) -> None:
    assert pack(single("MatMul", shared((64, 64), 16), opset)).tensors[0].encoding == "dense"


def test_model_given_keeps_its_tensor_when_packed() -> None:
    model = single("MatMul", shared((64, 64), 4))

    pack(model)

    assert list(model.graph.initializers) == ["w"]
    assert len(model.graph) == 1


def test_operators_count_when_encodings_of_a_small_tensor_are_compared() -> None:
    report = pack(single("MatMul", pruned(shared((48, 32), 15), 0.5))).tensors[0]

    assert report.encoding == "codebook"
    assert report.packed_bytes < 1500  # a sparse decoder has fewer indices but more operators: 1960 B


def test_bytes_are_the_same_when_packed_twice() -> None:
    model = single("MatMul", contents("both 0.1", (64, 64)))

    assert serialized(pack(model).model) == serialized(pack(model).model)


def test_file_shrinks_by_what_the_report_says_when_packed() -> None:
    model = single("Gemm", shared((512, 512), 16))

    packed = pack(model)

    saved = len(serialized(model)) - len(serialized(packed.model))
    reported = sum(tensor.dense_bytes - tensor.packed_bytes for tensor in packed.tensors)
    assert saved == pytest.approx(reported, abs=200)


def test_whole_model_runs_when_many_tensors_are_packed(tmp_path: Path) -> None:
    model = bert(layers=2)
    for name in matrices(model):
        model.write(name, contents("sparse 0.4" if "mlp" in name else "shared 16", model.read(name).shape))
    rows = rows_for(model, 3)

    packed = pack(model)
    again = pack(packed.model)

    assert {report.encoding for report in packed.tensors} >= {"codebook", "sparse"}
    onnx.checker.check_model(onnx.load_from_string(serialized(packed.model)), full_check=True)
    np.testing.assert_array_equal(answers(packed.model, rows), answers(model, rows))
    np.testing.assert_array_equal(answers(again.model, rows), answers(model, rows))


def test_loading_is_timed_when_packed() -> None:
    coded, plain = (pack(single("MatMul", values)).tensors[0] for values in (shared((2048, 1024), 3), dense((64, 64))))

    assert coded.load_ms is not None
    assert coded.load_ms > 0
    assert plain.load_ms == 0


def test_slowest_encodings_are_given_up_when_loading_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer, "_opening_ms", lambda: 0.0)
    model = bert(layers=2)
    for name in matrices(model):
        model.write(name, contents("shared 16", model.read(name).shape))
    unlimited = pack(model).tensors

    packed = pack(model, max_load_ms=1e-6)

    assert {report.encoding for report in unlimited} >= {"codebook"}
    assert {report.encoding for report in packed.tensors} == {"dense"}
    assert sum(report.load_ms or 0 for report in packed.tensors) <= 1e-6
    rows = rows_for(model, 2)
    np.testing.assert_array_equal(answers(packed.model, rows), answers(model, rows))


def test_a_quicker_encoding_is_preferred_to_none_when_the_smallest_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    model = single("MatMul", pruned(shared((256, 256), 15), 0.1))
    took = {"sparse": 100.0, "codebook": 10.0}
    monkeypatch.setattr(packer, "_opening_ms", lambda: 0.0)
    monkeypatch.setattr(packer, "_decoded_ms", lambda file, _: took["sparse" if b"CumSum" in file else "codebook"])

    chosen = {limit: pack(model, limit).tensors[0].encoding for limit in (None, 100, 50, 5)}

    assert chosen == {None: "sparse", 100: "sparse", 50: "codebook", 5: "dense"}


def test_the_dearest_goes_first_when_loading_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    model = single("Gemm", shared((256, 256), 16))
    model.write("bias", shared((2048,), 2))
    monkeypatch.setattr(packer, "_opening_ms", lambda: 0.0)
    monkeypatch.setattr(packer, "_decoded_ms", lambda _, contents: 10.0 + contents.values.size / 1e6)

    tensors = pack(model, max_load_ms=15).tensors

    assert {report.name: report.encoding for report in tensors} == {"w": "codebook", "bias": "dense"}
