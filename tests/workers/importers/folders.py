"""Hugging Face folders of tiny random encoders, zipped, and a reference forward pass written by hand in torch."""

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

Array = NDArray[np.generic]
HIDDEN, HEADS, LAYERS, INNER, WORDS, PLACES = 16, 4, 2, 32, 50, 20

_DISTIL = {
    "encoder.layer.": "transformer.layer.",
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def bert_weights(classes: int | None = 3, types: int = 2) -> dict[str, Array]:
    """Random weights under BERT's names, without prefix."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (WORDS, HIDDEN),
        "embeddings.position_embeddings.weight": (PLACES, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    if types:
        shapes["embeddings.token_type_embeddings.weight"] = (types, HIDDEN)
    for layer in range(LAYERS):
        place = f"encoder.layer.{layer}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= _linear(place + name, HIDDEN, HIDDEN)
        shapes |= _linear(place + "intermediate.dense", HIDDEN, INNER) | _linear(place + "output.dense", INNER, HIDDEN)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{place}{name}.weight": (HIDDEN,), f"{place}{name}.bias": (HIDDEN,)}
    shapes |= _linear("pooler.dense", HIDDEN, HIDDEN)
    if classes:
        shapes |= _linear("classifier", HIDDEN, classes)
    generator = np.random.default_rng(3)
    return {name: generator.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def _linear(name: str, inner: int, outer: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outer, inner), f"{name}.bias": (outer,)}


def bert_config(**changes: object) -> dict[str, object]:
    return {
        "model_type": "bert",
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": INNER,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "id2label": {"0": "bad", "1": "fair", "2": "good"},
    } | changes


def distilbert(weights: Mapping[str, Array]) -> tuple[dict[str, object], dict[str, Array]]:
    """The same weights under DistilBERT's names."""
    renamed = {}
    for name, values in weights.items():
        for old, new in _DISTIL.items():
            name = name.replace(old, new)  # noqa: PLW2901  # one replacement after another
        renamed[name.replace("pooler.dense", "pre_classifier")] = values
    prefixed = {name if "classifier" in name else f"distilbert.{name}": values for name, values in renamed.items()}
    config: dict[str, object] = {
        "model_type": "distilbert", "dim": HIDDEN, "n_heads": HEADS, "n_layers": LAYERS, "hidden_dim": INNER,
        "activation": "gelu",
    }  # fmt: skip
    return config, prefixed


def roberta(weights: Mapping[str, Array]) -> tuple[dict[str, object], dict[str, Array]]:
    """The same weights under RoBERTa's names."""
    heads = {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"}
    renamed = {}
    for name, values in weights.items():
        stem, _, kind = name.rpartition(".")
        renamed[f"{heads[stem]}.{kind}" if stem in heads else f"roberta.{name}"] = values
    return bert_config(model_type="roberta", pad_token_id=1), renamed


def safetensors(weights: Mapping[str, Array]) -> bytes:
    header, body = {}, b""
    kinds = {"float32": "F32", "float16": "F16", "int64": "I64"}
    for name, values in weights.items():
        span = [len(body), len(body) + values.nbytes]
        header[name] = {"dtype": kinds[str(values.dtype)], "shape": list(values.shape), "data_offsets": span}
        body += values.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def zipped(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in members.items():
            large = len(contents) > 1 << 20  # random weights do not deflate, they only take time
            archive.writestr(name, contents, zipfile.ZIP_STORED if large else zipfile.ZIP_DEFLATED)
    return path


def folder(path: Path, config: Mapping[str, object], weights: Mapping[str, Array], **more: bytes) -> Path:
    members = {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(weights)}
    return zipped(path, members | {name.replace("__", "."): contents for name, contents in more.items()})


def reference(
    weights: Mapping[str, Array], feeds: Mapping[str, Array], places: Array, heads: int = HEADS
) -> torch.Tensor:
    """BERT's hidden states, (batch, sequence, hidden), from weights under BERT's own names."""
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}

    def linear(value: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(value, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def norm(value: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(value, value.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-12)

    ids, mask = torch.from_numpy(feeds["input_ids"]), torch.from_numpy(feeds["attention_mask"]).bool()
    hidden = tensors["embeddings.word_embeddings.weight"][ids]
    hidden = hidden + tensors["embeddings.position_embeddings.weight"][torch.from_numpy(places)]
    types = tensors.get("embeddings.token_type_embeddings.weight")
    if types is not None:
        hidden = hidden + types[torch.from_numpy(feeds.get("token_type_ids", np.zeros_like(feeds["input_ids"])))]
    hidden = norm(hidden, "embeddings.LayerNorm")
    layers = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    for layer in range(len(layers)):
        place = f"encoder.layer.{layer}."
        query, key, value = (
            linear(hidden, f"{place}attention.self.{name}").reshape(*hidden.shape[:2], heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        mixed = linear(mixed.transpose(1, 2).flatten(2), f"{place}attention.output.dense")
        hidden = norm(mixed + hidden, f"{place}attention.output.LayerNorm")
        inner = linear(functional.gelu(linear(hidden, f"{place}intermediate.dense")), f"{place}output.dense")
        hidden = norm(inner + hidden, f"{place}output.LayerNorm")
    return hidden


def pooled(weights: Mapping[str, Array], hidden: torch.Tensor, activation: str = "tanh") -> torch.Tensor:
    """The classifier's logits from the first token."""
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}
    first = functional.linear(hidden[:, 0], tensors["pooler.dense.weight"], tensors["pooler.dense.bias"])
    return functional.linear(
        getattr(torch, activation)(first), tensors["classifier.weight"], tensors["classifier.bias"]
    )
