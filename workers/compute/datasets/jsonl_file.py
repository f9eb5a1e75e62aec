"""Read JSON lines: one object per line, the same keys in each, in bounded lines."""

import json
from pathlib import Path
from typing import NoReturn

from app.errors import DatasetMalformed
from workers.compute.datasets.rows import Json, column_of_values, finite_number
from workers.compute.datasets.table import MAX_LINE_BYTES, MAX_ROWS, Table, make_table, refuse_wide

_MAX_DEPTH = 32


def read(path: Path) -> Table:
    """Return the columns by key. Raises DatasetMalformed, naming the line, and DatasetTooWide."""
    columns: dict[str, list[Json]] = {}
    number = 0
    with path.open("rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise DatasetMalformed(f"Line {number} is over 1 MiB.")
            if not line.strip():
                continue
            row = _parse(line, number)
            columns = columns or {key: [] for key in row}
            refuse_wide(len(columns))
            if row.keys() != columns.keys():
                raise DatasetMalformed(f"Line {number} does not have the keys of the first line.")
            for key, value in row.items():
                columns[key].append(value)
            if number > MAX_ROWS:
                raise DatasetMalformed(f"The data set has over {MAX_ROWS:,} rows.")
    return make_table({key: column_of_values(key, values) for key, values in columns.items()})


def _parse(line: bytes, number: int) -> dict[str, Json]:
    # Counting brackets is enough: brackets inside strings can only make a harmless line look deep.
    if line.count(b"[") + line.count(b"{") > _MAX_DEPTH and _depth(line) > _MAX_DEPTH:
        raise DatasetMalformed(f"Line {number} is nested deeper than {_MAX_DEPTH} levels.")
    try:
        row = json.loads(line, parse_constant=_refuse, parse_float=finite_number, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DatasetMalformed(f"Line {number} is not JSON.") from error
    except DatasetMalformed as error:
        raise DatasetMalformed(f"Line {number}: {error.detail}") from error
    if not isinstance(row, dict):
        raise DatasetMalformed(f"Line {number} is not a JSON object.")
    return row


def _depth(line: bytes) -> int:
    depth = deepest = 0
    for byte in line:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _refuse(constant: str) -> NoReturn:
    raise DatasetMalformed(f"{constant} is not a JSON number.")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise DatasetMalformed("A key occurs twice.")
    return dict(pairs)
