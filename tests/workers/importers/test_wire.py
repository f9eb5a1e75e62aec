"""Counts and nestings are refused before protobuf makes objects of them."""

from pathlib import Path

import pytest

from app.errors import ModelMalformed, ModelpressError, ModelTooComplex
from tests.workers.importers.small_models import model, nested_ifs, value
from workers.compute.importers import wire


def message(field: int, content: bytes) -> bytes:
    """A field that holds a message, in protobuf's wire format."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([field << 3 | 2, *length, size]) + content


def checked(contents: bytes, folder: Path) -> type[ModelpressError] | None:
    (folder / "upload").write_bytes(contents)
    try:
        wire.check(folder / "upload")
    except ModelpressError as refusal:
        return type(refusal)
    return None


NODE, TENSOR, ATTRIBUTE, NAME, AXIS_LENGTH = b"\x0a\x00", b"\x2a\x00", b"\x2a\x00", b"\x0a\x00", b"\x08\x01"
GRAPH = 7


def test_a_model_passes(tmp_path: Path) -> None:
    assert checked(model().SerializeToString(), tmp_path) is None


@pytest.mark.parametrize(
    "graph",
    [
        NODE * 50_001,
        TENSOR * 50_001,
        message(1, ATTRIBUTE * 600_001),
        message(1, NAME * 1_500_001),
        message(5, AXIS_LENGTH * 1_500_001),
    ],
    ids=["nodes", "tensors", "attributes", "names", "axes"],
)
def test_too_much_of_anything_is_too_complex(graph: bytes, tmp_path: Path) -> None:
    assert checked(message(GRAPH, graph), tmp_path) is ModelTooComplex


def test_as_much_as_is_allowed_passes(tmp_path: Path) -> None:
    assert checked(message(GRAPH, NODE * 50_000), tmp_path) is None


@pytest.mark.parametrize(("depth", "found"), [(16, None), (17, ModelTooComplex)])
def test_subgraphs_are_counted_by_depth(depth: int, found: type[ModelpressError] | None, tmp_path: Path) -> None:
    built = model([nested_ifs(depth)], outputs=[value(f"z{depth}", None)])
    assert checked(built.SerializeToString(), tmp_path) is found


def test_subgraphs_beyond_what_protobuf_reads_are_too_complex(tmp_path: Path) -> None:
    graph = b""
    for _ in range(400):
        graph = message(1, message(5, message(6, graph)))
    assert checked(message(GRAPH, graph), tmp_path) is ModelTooComplex


def test_types_within_types_are_counted_by_depth(tmp_path: Path) -> None:
    kind = b""
    for _ in range(80):
        kind = message(4, message(1, kind))
    described = message(11, message(2, kind))
    assert checked(message(GRAPH, described), tmp_path) is ModelTooComplex


@pytest.mark.parametrize(
    "contents",
    [b"\x3a\xff\xff\xff\xff\x07", b"\x3b" * 1000, b"\xff" * 20, b"\x00\x01", b"\x09\x01", b"\x08", b"\x0f\x01"],
    ids=["length", "groups", "long number", "field 0", "short number", "no value", "no such type"],
)
def test_what_is_no_message_is_malformed(contents: bytes, tmp_path: Path) -> None:
    assert checked(contents, tmp_path) is ModelMalformed
