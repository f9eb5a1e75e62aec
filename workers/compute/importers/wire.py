"""Count what an ONNX file says it holds, by arithmetic on protobuf's wire format, before protobuf makes objects of it.

Two bytes of a file can make an object of a hundred, so counts are held against their budgets first. Follows
protobuf.dev/programming-guides/encoding; which fields nest or repeat is read off ONNX's own schema.
"""

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from app.errors import ModelMalformed, ModelTooComplex
from workers.compute.importers.budgets import MAX_DEPTH, MAX_NODES, MAX_TENSORS

MAX_FUNCTIONS = 10_000
MAX_MESSAGES = 600_000  # of any other kind: attributes, described values, their axes
MAX_FIELDS = 1_500_000  # of any kind: 50,000 nodes with all that describes them have a million
_LIMITS = {"NodeProto": MAX_NODES, "TensorProto": MAX_TENSORS, "FunctionProto": MAX_FUNCTIONS, "fields": MAX_FIELDS}
_CALLED = {"NodeProto": "nodes", "TensorProto": "tensors", "FunctionProto": "functions"}
_MOST_NESTED = 100  # messages in messages: protobuf's own limit
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


def _schema(descriptor: Any, found: dict[str, dict[int, str]]) -> dict[str, dict[int, str]]:  # noqa: ANN401 - protobuf has no types
    """Return the messages inside each message by field number, for `descriptor` and all that it can hold."""
    inner = [(field.number, field.message_type) for field in descriptor.fields if field.message_type is not None]
    found[descriptor.name] = {number: message.name for number, message in inner}
    for _, message in inner:
        if message.name not in found:
            _schema(message, found)
    return found


_MESSAGES: Mapping[str, Mapping[int, str]] = _schema(onnx.ModelProto.DESCRIPTOR, {})


class _Span(NamedTuple):
    """A message in the file: its kind, where it lies, how deep, and how many graphs it is inside."""

    kind: str
    start: int
    end: int
    depth: int = 0
    graphs: int = 0


def check(path: Path) -> None:
    """Raise ModelTooComplex for a count or a nesting over its budget, ModelMalformed for what is no message."""
    counts: Counter[str] = Counter()
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as contents:
        pending = [_Span("ModelProto", 0, len(contents))]
        while pending:
            for inner in _inside(contents, pending.pop(), counts):
                counts[inner.kind] += 1
                _refuse_many(inner.kind, counts)
                _refuse_deep(inner)
                if inner.end > inner.start:
                    pending.append(inner)


def _inside(contents: mmap.mmap, outer: _Span, counts: Counter[str]) -> Iterator[_Span]:
    """Yield the messages directly inside `outer`; the fields that are passed count too."""
    known, at, fields = _MESSAGES[outer.kind], outer.start, 0
    while at < outer.end:
        key, at = _varint(contents, at, outer.end)
        wire, fields = key & 7, fields + 1
        if wire == _LENGTH:
            length, at = _varint(contents, at, outer.end)
            kind, start, at = known.get(key >> 3), at, at + length
            if kind and at <= outer.end:
                yield _Span(kind, start, at, outer.depth + 1, outer.graphs + (kind == "GraphProto"))
        elif wire == _VARINT:
            _, at = _varint(contents, at, outer.end)
        elif wire in {_FIXED64, _FIXED32}:
            at += 8 if wire == _FIXED64 else 4
        else:  # groups, which ONNX never had, and numbers that mean nothing
            raise _no_model()
        if key < 8 or at > outer.end:  # noqa: PLR2004 - there is no field 0
            raise _no_model()
        if fields > MAX_FIELDS:
            break
    counts["fields"] += fields
    _refuse_many("fields", counts)


def _varint(contents: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    if at < end and (short := contents[at]) < 0x80:  # noqa: PLR2004 - most are one byte
        return short, at + 1
    value = shift = 0
    for place in range(at, min(at + _LONGEST_VARINT, end)):
        byte = contents[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value, place + 1
        shift += 7
    raise _no_model()


def _refuse_many(kind: str, counts: Counter[str]) -> None:
    limit = _LIMITS.get(kind, MAX_MESSAGES)
    if counts[kind] > limit:
        raise ModelTooComplex(f"The model has more than {limit:,} {_CALLED.get(kind, 'attributes, values or names')}.")


def _refuse_deep(span: _Span) -> None:
    if span.graphs > MAX_DEPTH + 1:  # one of them is the model's own
        raise ModelTooComplex(f"Subgraphs are nested deeper than {MAX_DEPTH} levels.")
    if span.depth > _MOST_NESTED:
        raise ModelTooComplex(f"Messages of the file are nested deeper than {_MOST_NESTED} levels.")


def _no_model() -> ModelMalformed:
    return ModelMalformed("The file is not an ONNX model, or it is cut short.")
