"""Rows of uploads: models alone, with their data files, in folders; data sets in every format."""

import gzip
import io
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper
from pyarrow import parquet

from tests.hostile.rows import Build, Row, admitted, known_cases, refused
from tests.workers.compute import test_archives
from tests.workers.datasets import test_readers
from tests.workers.importers import test_external_data, test_huggingface, test_onnx_file
from tests.workers.importers.folders import bert_weights, safetensors
from tests.workers.importers.small_models import model, value, weight

GOOD = model().SerializeToString()
ONE_FILE = {"noun": "models", "kind": "onnx"}
FOLDER = {"noun": "models", "kind": "huggingface"}
# Without a configuration there is nothing to unpack, so what is wrong with the bytes does not come to light.
NOT_FOLDERS = {"empty", "random", "bomb", "lying size", "wrong checksum"}
# A gateway has words of its own for a body of no bytes.
EMPTY = "validation-error"
# What the gateway refuses by its first bytes, and the check of a single file by others.
CODE = {
    "zip": b"PK\x03\x04" + b"x" * 64,
    "PyTorch file": b"PK\x03\x04" + b"\0" * 26 + b"archive/data.pkl" + b"x" * 64,
    "old pickle": b"\x80\x02}q\x00." + b"x" * 64,
    "program": b"\x7fELF" + b"x" * 64,
}


def packed(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, contents in members.items():
            archive.writestr(zipfile.ZipInfo(name), contents, method)
    return stream.getvalue()


def bytes_of(build: "test_huggingface.Callable[[Path], Path]") -> Build:
    def made() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return build(Path(folder) / "m.zip").read_bytes()

    return made


def serialized(name: str) -> Build:
    return lambda: test_onnx_file.MODELS[name][0]().SerializeToString()


def plain_files() -> list[Row]:
    files = {name: (lambda held=held: held[0], held[1]) for name, held in test_onnx_file.FILES.items()}
    models = {name: (serialized(name), held[1]) for name, held in test_onnx_file.MODELS.items()}
    del files["empty"], files["zip"]
    rows = [*known_cases(files, **ONE_FILE), *known_cases(models, **ONE_FILE), refused("empty", bytes, EMPTY)]
    rows += [refused(name, lambda held=held: held, "format-unsafe") for name, held in CODE.items() if name != "zip"]
    return [*rows, *odd_files()]


def odd_files() -> list[Row]:
    deep, huge_name = weight(), weight("n" * 1_000_000)
    deep.dims[:] = [2**62, 2**62]
    texts = TensorProto(name="t", data_type=TensorProto.STRING, dims=[2], string_data=[b"\0" * 10, b"\xff\xfe"])
    metadata = model()
    metadata.metadata_props.add(key="<script>", value="\r\nSet-Cookie: a=b\x1b[2J" * 100)
    newer = model()
    newer.ir_version = 2**40
    rows = {
        "old text pickle": (b"cos\nsystem\n(S'touch x'\ntR.", "model-malformed"),
        "compressed": (gzip.compress(GOOD), "model-malformed"),
        "concatenated": (GOOD + GOOD, "model-malformed"),
        "pickle behind": (GOOD + b"\x80\x04\x95" + b"x" * 64, "model-malformed"),
        "dimensions that overflow": (model(initializers=[deep]).SerializeToString(), "model-malformed"),
        "version of the future": (newer.SerializeToString(), "model-malformed"),
        "millions of nodes": (b"\x3a\x80\x92\xf4\x01" + b"\x0a\x00" * 2_000_000, "model-too-complex"),
        "hundreds of thousands of groups": (b"\x3b" * 200_000, "model-malformed"),
        "name of a million": (model(initializers=[huge_name]).SerializeToString(), "model-malformed"),
    }  # fmt: skip
    odd = [refused(name, lambda held=held: held, problem) for name, (held, problem) in rows.items()]
    strings = model(initializers=[weight(), texts]).SerializeToString()
    marked = metadata.SerializeToString()
    return [*odd, admitted("texts with NUL", lambda: strings), admitted("script in metadata", lambda: marked)]


def several_files() -> list[Row]:
    outside = {
        name: (lambda build=build: packed({"m.onnx": build(), "w": test_external_data.ARRAY.tobytes() + b"xx"}), error)
        for name, (build, error) in test_external_data.REFUSED.items()
    }
    names = {"a.onnx": GOOD, "b.onnx": GOOD}
    rows = {
        "two models": (packed(names), "model-external-data"),
        "no model": (packed({"a.txt": b"x"}), "format-unsafe"),
        "native code": (packed({"data/aotinductor/model/a.so": b"\x7fELF", "version": b"1"}), "format-unsafe"),
        "pickle in another folder": (packed({"m/a.onnx": GOOD, "n/data.pkl": b"x"}), "model-external-data"),
        "bomb": (packed({"a.onnx": bytes(200 << 20)}), "archive-bomb"),
    }
    odd = [refused(f"zip, {name}", lambda held=held: held, problem) for name, (held, problem) in rows.items()]
    return [*known_cases(outside, "zip, ", **ONE_FILE), *odd]


def folders() -> list[Row]:
    members = {"config.json": b"{}", "model.safetensors": safetensors(bert_weights())}
    archives = {name: held for name, held in test_archives.CASES.items() if name not in NOT_FOLDERS}
    readers = {name: (bytes_of(build), error) for name, (build, error) in test_huggingface.FOLDERS.items()}
    rows = {
        "bomb": (packed({**members, "a.txt": bytes(100 << 20)}), "archive-bomb"),
        "ten thousand members": (packed({str(number): b"" for number in range(10_001)}), "archive-bomb"),
        "chat template": (packed({**members, "tokenizer_config.json": b'{"auto_map": 1}'}), "remote-code-refused"),
        "configuration of 100,000 levels": (packed({**members, "config.json": b"[" * 100_000}), "model-malformed"),
        "number of 100,000 digits": (
            packed({**members, "config.json": b'{"hidden_size": ' + b"9" * 100_000 + b"}"}), "model-malformed"
        ),
        "no archive": (b"abc" * 100, "archive-malformed"),
    }  # fmt: skip
    odd = [refused(name, lambda held=held: held, problem, **FOLDER) for name, (held, problem) in rows.items()]
    return [*known_cases(archives, "zip, ", **FOLDER), *known_cases(readers, **FOLDER), *odd]


def tables() -> list[Row]:
    rows = []
    for name, (kind, build, error) in test_readers.REFUSED.items():
        problem = EMPTY if name.endswith(" empty") else error.slug
        rows.append(refused(name, build, problem, noun="datasets", kind=kind))
    return rows + odd_tables()


def dictionary_bomb(rows: int = 3_000_000) -> bytes:
    """A parquet file of some kilobytes: one long text, a dictionary's only entry, in every row."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 10_000]))
    stream = io.BytesIO()
    parquet.write_table(pa.table({"a": column}), stream, compression="zstd")
    return stream.getvalue()


def odd_tables() -> list[Row]:
    lists = b'{"a": ' + b"[" * 30 + b"1" + b"]" * 30 + b"}\n"
    cases: dict[str, tuple[str, bytes, str]] = {
        "UTF-16": ("csv", "a,b\n1,2\n3,4\n5,6\n".encode("utf-16"), "dataset-malformed"),
        "NULs": ("csv", b"a,b\n\0,\0\n\0,\0\n", "dataset-mismatch"),
        "a single row": ("csv", b"a,b\n1,2\n", "dataset-mismatch"),
        "binary": ("csv", bytes(range(256)) * 100, "dataset-malformed"),
        "UTF-16 lines": ("jsonl", '{"a": 1}\n'.encode("utf-16") * 4, "dataset-malformed"),
        "array of all": ("jsonl", b'[{"a": 1}, {"a": 2}]', "dataset-malformed"),
        "keys by the thousand": ("jsonl", b"{" + b",".join(b'"k%d":1' % n for n in range(10_001)) + b"}",
                                 "dataset-too-wide"),
        "many levels": ("jsonl", lists.replace(b"[", b"[[").replace(b"]", b"]]") * 4, "dataset-malformed"),
        "bomb": ("npz", packed({"x.npy": bytes(200 << 20)}), "archive-bomb"),
        "way out": ("npz", packed({"../x.npy": b"x"}), "archive-unsafe"),
        "pickle inside": ("npz", packed({"x.npy": b"\x80\x04\x95" + b"x" * 100}), "dataset-malformed"),

        "twin columns": ("parquet", twins(), "dataset-malformed"),
        "structures": ("parquet", test_readers.parquet_of(a=[{"b": 1}] * 4), "dataset-malformed"),
    }  # fmt: skip
    rows = [
        refused(name, lambda held=held: held, problem, noun="datasets", kind=kind)
        for name, (kind, held, problem) in cases.items()
    ]
    formulas = b"\xef\xbb\xbfa,label\n=1+1,x\n@SUM(A1),y\n+cmd|' /C calc'!A0,x\n-2+3,y\n<script>,x\n"
    bomb = dictionary_bomb()
    rows.append(
        refused("dictionary bomb", lambda: bomb, "resource-limit-exceeded", "dataset-malformed",
                noun="datasets", kind="parquet")
    )  # fmt: skip
    return [*rows, admitted("formulas", lambda: formulas, noun="datasets", kind="csv")]


def twins() -> bytes:
    stream = io.BytesIO()
    columns = [pa.array([1, 2, 3])] * 2
    parquet.write_table(pa.Table.from_arrays(columns, ["a", "a"]), stream)
    return stream.getvalue()


def pairs_of_ports() -> list[Row]:
    """Inputs and outputs that trip readers."""
    twice = model(inputs=[value("x", ["batch", 4]), value("x", ["batch", 4])])
    hidden = model([helper.make_node("Identity", ["w"], ["y"])], inputs=[value("x", ["batch", 4])])
    sized = model(initializers=[weight(), numpy_helper.from_array(np.float32(np.nan).reshape(1, 1), "n")])
    return [
        refused("input twice", twice.SerializeToString, "model-malformed", "runtime-error"),
        admitted("answer without the input", hidden.SerializeToString),
        refused("one number that is none", sized.SerializeToString, "model-nonfinite"),
    ]


def rows() -> list[Row]:
    """Return every row of an upload."""
    return [*plain_files(), *pairs_of_ports(), *several_files(), *folders(), *tables()]
