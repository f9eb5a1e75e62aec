"""Mutated uploads end in acceptance or a named refusal, never in another error."""

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
from pyarrow import parquet

from app.errors import ModelpressError
from tests.workers.compute.orders import mlp
from tests.workers.importers import folders
from tests.workers.importers.several_files import split
from workers.compute.datasets import csv_file, jsonl_file, npz, parquet_file
from workers.compute.graph.model import save
from workers.compute.importers.huggingface.importing import import_folder
from workers.compute.importers.onnx_file import admit, read
from workers.compute.importers.summary import summarize

ROUNDS = 150


def mutated(contents: bytes, generator: random.Random) -> bytes:
    """A few bytes changed, dropped or added, mostly near the ends, where formats keep their structure."""
    changed = bytearray(contents)
    for _ in range(generator.choice([1, 1, 2, 4])):
        reach = generator.randrange(min(1000, len(changed)))
        at = reach if generator.random() < 0.5 else len(changed) - 1 - reach
        new = bytes(generator.randrange(256) for _ in range(generator.randrange(0, 4)))
        changed[at : at + generator.randrange(0, 4)] = new
    return bytes(changed)


def npz_bytes(folder: Path) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.arange(12, dtype=np.float32).reshape(6, 2), y=np.arange(6), t=np.array(["a"] * 6))
    return stream.getvalue()


def parquet_bytes(folder: Path) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.table({"a": [1, 2, 3], "b": [0.5, 1, 2], "c": ["x", "y", "z"], "d": [[1, 2]] * 3}), stream)
    return stream.getvalue()


def folder_bytes(folder: Path) -> bytes:
    path = folders.folder(folder / "whole.zip", folders.bert_config(), folders.bert_weights())
    with zipfile.ZipFile(path) as packed, zipfile.ZipFile(folder / "stored.zip", "w") as stored:
        for name in packed.namelist():  # stored, so that mutations reach the JSON inside
            stored.writestr(name, packed.read(name))
    return (folder / "stored.zip").read_bytes()


def open_model(path: Path) -> None:
    summarize(path, path, admit(path), classes=[], has_tokenizer=False)


def pair_bytes(folder: Path) -> bytes:
    """The model file of two; the other stays as it is."""
    built = onnx.load(mlp(folder / "whole.onnx"))
    return split(built, folder / "pair")["net.onnx"]


def open_pair(path: Path) -> None:
    model = path.parent / "pair" / "net.onnx"
    model.write_bytes(path.read_bytes())
    admit(model, has_files=True)
    save(read(model), path.parent / "again.onnx")


KINDS: dict[str, tuple[Callable[[Path], bytes], Callable[[Path], object]]] = {
    "onnx": (lambda folder: mlp(folder / "whole.onnx").read_bytes(), open_model),
    "onnx in two files": (pair_bytes, open_pair),
    "huggingface": (folder_bytes, lambda path: import_folder(path, path.parent)),
    "npz": (npz_bytes, npz.read),
    "csv": (lambda folder: b'a,b,c\n1,0.5,x\n2,1,"y"\n' * 3, csv_file.read),
    "jsonl": (lambda folder: b'{"a": 1, "b": 0.5, "c": "x", "d": [1, 2]}\n' * 3, jsonl_file.read),
    "parquet": (parquet_bytes, parquet_file.read),
}


@pytest.mark.parametrize("kind", KINDS)
def test_mutation_ends_in_acceptance_or_a_named_refusal(kind: str, tmp_path: Path) -> None:
    build, opened = KINDS[kind]
    whole, generator = build(tmp_path), random.Random(7)
    refusals = []
    for _ in range(ROUNDS):
        (tmp_path / "upload").write_bytes(mutated(whole, generator))
        try:
            opened(tmp_path / "upload")
        except ModelpressError as refusal:
            refusals.append(refusal.detail)
    assert refusals
    assert not [detail for detail in refusals if str(tmp_path) in detail]
