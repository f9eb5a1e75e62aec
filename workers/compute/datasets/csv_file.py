"""Read CSV files with a header row, in bounded lines."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from app.errors import DatasetMalformed
from workers.compute.datasets.rows import column_of_fields
from workers.compute.datasets.table import MAX_LINE_BYTES, MAX_ROWS, Table, make_table, refuse_wide
from workers.compute.wording import shown


def read(path: Path) -> Table:
    """Return the columns by header name. Raises DatasetMalformed, naming the line, and DatasetTooWide."""
    csv.field_size_limit(MAX_LINE_BYTES)
    with path.open("rb") as stream:
        rows = csv.reader(_lines(stream), strict=True)
        try:
            header = next(rows, [])
            _check_header(header)
            fields: list[list[str]] = [[] for _ in header]
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DatasetMalformed(f"Line {rows.line_num} has {len(row)} fields; the header has {len(header)}.")
                for column, field in zip(fields, row, strict=True):
                    column.append(field)
                if len(fields[0]) > MAX_ROWS:
                    raise DatasetMalformed(f"The data set has over {MAX_ROWS:,} rows.")
        except csv.Error as error:
            raise DatasetMalformed(f"Line {rows.line_num} is not CSV, or a field is over 1 MiB.") from error
    if not fields[0]:
        raise DatasetMalformed("The data set has no rows.")
    return make_table({name: column_of_fields(name, column) for name, column in zip(header, fields, strict=True)})


def _lines(stream: io.BufferedReader) -> Iterator[str]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise DatasetMalformed(f"Line {number} is over 1 MiB.")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DatasetMalformed(f"Line {number} is not UTF-8.") from error


def _check_header(header: list[str]) -> None:
    refuse_wide(len(header))
    if not header:
        raise DatasetMalformed("The file has no header line.")
    for name in header:
        if not name or header.count(name) > 1:
            raise DatasetMalformed(f"The header has an empty or repeated name {shown(name)!r}.")
