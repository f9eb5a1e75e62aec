"""A check_dataset order: read the whole file by the rules and describe it; no model is at hand."""

from pathlib import Path

import numpy as np

from app.contracts.dataset import ColumnSummary, DatasetSummary
from app.contracts.tasks import CheckDatasetOrder, Done
from workers.compute import limits
from workers.compute.channel import Channel
from workers.compute.datasets.reading import label_name, read_table, split_name
from workers.compute.datasets.samples import Array
from workers.compute.datasets.splitting import split_rows
from workers.compute.datasets.table import is_text
from workers.compute.files import sha256_of
from workers.compute.wording import shown

MAX_CLASSES = 1000
_COPIES = 200  # what an archive may unpack to; a field of text takes 60 bytes in memory
_COUNTED_ROWS = 1_000_000  # distinct values are counted up to here


def run(order: CheckDatasetOrder, scratch: Path, channel: Channel) -> Done:
    """Examine the data set; raises what the readers raise."""
    channel.progress("reading", 0.0)
    limits.hold((scratch / order.dataset.path).stat().st_size, _COPIES)
    table = read_table(order.dataset, scratch)
    label = label_name(order.dataset, table)
    split = split_name(order.dataset, table)
    classes = _classes(table.columns[label]) if label else {}
    codes = np.unique(table.columns[label], return_inverse=True)[1] if classes and label else None
    rows = split_rows(table.columns[split] if split else None, codes, order.dataset.splits, table.rows)
    return Done(
        dataset=DatasetSummary(
            rows=table.rows,
            columns=[_describe(name, column) for name, column in table.columns.items()],
            rows_per_split={name: len(members) for name, members in rows.items()},
            classes=classes,
            sha256=sha256_of(scratch / order.dataset.path),
        )
    )


def _classes(column: Array) -> dict[str, int]:
    if column.ndim != 1 or column.dtype.kind == "f":
        return {}
    values, counts = np.unique(column, return_counts=True)
    if len(values) > MAX_CLASSES:
        return {}
    return {shown(str(value)): int(count) for value, count in zip(values, counts, strict=True)}


def _describe(name: str, column: Array) -> ColumnSummary:
    countable = column.ndim == 1 and len(column) <= _COUNTED_ROWS
    return ColumnSummary(
        name=name,
        dtype="text" if is_text(column) else str(column.dtype),
        shape=list(column.shape[1:]),
        distinct=len(np.unique(column)) if countable else None,
    )
