"""Read Parquet files with pyarrow, after their footer has passed the budgets."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from app.errors import DatasetMalformed
from workers.compute.datasets.rows import Json, column_of_values
from workers.compute.datasets.samples import Array
from workers.compute.datasets.table import MAX_ROWS, MAX_TABLE_BYTES, Table, make_table, refuse_wide, text_column
from workers.compute.wording import shown

_FOOTER_BYTES = 8  # length and magic
_MAX_FOOTER_BYTES = 16 << 20
_MAX_THRIFT_BYTES, _MAX_THRIFT_ITEMS = 64 << 20, 1_000_000


def read(path: Path) -> Table:
    """Return the columns by name. Raises DatasetMalformed, DatasetTooWide."""
    _check_footer(path)
    try:
        return make_table(_columns(path))
    except pa.ArrowMemoryError:
        raise  # a MemoryError, and no fault of the file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DatasetMalformed("The file is not readable Parquet.") from error


def _columns(path: Path) -> dict[str, Array]:
    file = parquet.ParquetFile(
        path, thrift_string_size_limit=_MAX_THRIFT_BYTES, thrift_container_size_limit=_MAX_THRIFT_ITEMS
    )
    _check_budget(file.metadata)
    table = file.read(use_threads=False)
    names = table.column_names
    if len(set(names)) != len(names):
        raise DatasetMalformed("Two columns have the same name.")
    return {name: _column(name, table.column(name)) for name in names}


def _check_footer(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - _FOOTER_BYTES))
        tail = stream.read()
    footer = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or footer > min(size, _MAX_FOOTER_BYTES):
        raise DatasetMalformed("The file is not Parquet, or it is cut short.")


def _check_budget(metadata: parquet.FileMetaData) -> None:
    refuse_wide(metadata.num_columns)
    unpacked = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if metadata.num_rows > MAX_ROWS or unpacked > MAX_TABLE_BYTES:
        raise DatasetMalformed(f"The data set has {metadata.num_rows:,} rows in {unpacked:,} bytes, which is too much.")


def _column(name: str, column: pa.ChunkedArray) -> Array:
    if column.null_count:
        raise DatasetMalformed(f"Column {shown(name)!r} has {column.null_count:,} empty values.")
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return text_column(column.to_pylist())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        numbers: Array = np.asarray(column.to_numpy())
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            raise DatasetMalformed(f"Column {shown(name)!r} holds NaN or infinite values.")
        return numbers
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values: list[Json] = column.to_pylist()
        return column_of_values(name, values)
    raise DatasetMalformed(f"Column {shown(name)!r} is of type {shown(str(kind))}; numbers, text and lists are read.")
