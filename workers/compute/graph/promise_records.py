"""Constraints as plain facts and arrays, and back, bit for bit and in their order. Knows no file."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from workers.compute.graph.constraints import Codebook, Constraint, Grid, Half, Mask, Signs
from workers.compute.graph.grids import Steps

Arrays = dict[str, NDArray[np.generic]]
Kind = TypeVar("Kind", bound=np.generic)

KINDS: Mapping[str, type] = {kind.__name__: kind for kind in (Mask, Codebook, Signs, Grid, Half, Steps)}


def taken_apart(constraints: Mapping[str, Constraint]) -> tuple[list[Any], Arrays]:
    """Return facts that JSON can hold, and the arrays that they name."""
    arrays: Arrays = {}
    facts = [[name, _record(promise, str(place), arrays)] for place, (name, promise) in enumerate(constraints.items())]
    return facts, arrays


def put_together(facts: list[Any], arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Constraint]:
    """Return the constraints again. Raises KeyError and TypeError for facts of anything else."""
    return {name: cast("Constraint", _whole(record, arrays)) for name, record in facts}


def settled(constraints: Mapping[str, Constraint]) -> dict[str, Constraint]:
    """Return the constraints as they come back from their records: what they say is the same, arrays lie in C order."""
    return put_together(*taken_apart(constraints))


def _record(value: object, key: str, arrays: Arrays) -> dict[str, Any]:
    if type(value).__name__ not in KINDS or not is_dataclass(value):
        msg = f"{type(value).__name__} has no record"
        raise TypeError(msg)
    parts = {field.name: _plain(getattr(value, field.name), f"{key}.{field.name}", arrays) for field in fields(value)}
    return {"kind": type(value).__name__, "parts": parts}


def _plain(part: object, key: str, arrays: Arrays) -> object:
    if isinstance(part, np.ndarray):
        arrays[key] = np.asarray(part, order="C")
        return {"array": key}
    if is_dataclass(part):
        return _record(part, key, arrays)
    if isinstance(part, tuple):
        return [int(number) for number in part]
    return part.item() if isinstance(part, np.generic) else part


def _whole(record: Any, arrays: Mapping[str, NDArray[np.generic]]) -> object:  # noqa: ANN401 - whatever JSON holds
    if isinstance(record, list):
        return tuple(record)
    if not isinstance(record, dict):
        return record
    if "array" in record:
        return arrays[record["array"]]
    return KINDS[record["kind"]](**{name: _whole(part, arrays) for name, part in record["parts"].items()})
