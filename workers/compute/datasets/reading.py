"""Read a data set's file by its format. The reader is imported when asked for: pyarrow starts slowly."""

import importlib
from pathlib import Path

from app.contracts.tasks import InputDataset
from workers.compute.datasets.table import Table

# Each module has read(path) -> Table.
READERS = {
    "npz": "workers.compute.datasets.npz",
    "csv": "workers.compute.datasets.csv_file",
    "jsonl": "workers.compute.datasets.jsonl_file",
    "parquet": "workers.compute.datasets.parquet_file",
}
LABEL_NAMES = ("label", "labels", "y", "Y", "target", "targets")
SPLIT_NAMES = ("split", "splits")


def read_table(dataset: InputDataset, scratch: Path) -> Table:
    """Return the columns; those that the request names are there.

    Raises DatasetMalformed, DatasetMismatch, DatasetTooWide, ArchiveUnsafe, ArchiveBomb.
    """
    table: Table = importlib.import_module(READERS[dataset.format]).read(scratch / dataset.path)
    named = [dataset.columns.text, dataset.columns.label, dataset.columns.split]
    for source in dataset.columns.inputs.values():
        named += [source] if isinstance(source, str) else source
    for name in named:
        if name is not None:
            table.column(name)
    return table


def label_name(dataset: InputDataset, table: Table) -> str | None:
    """Return the label column: the one that is named, or one with a usual name."""
    taken = {
        name for source in dataset.columns.inputs.values() for name in ([source] if isinstance(source, str) else source)
    }
    usual = (name for name in LABEL_NAMES if name in table.columns and name not in taken)
    return dataset.columns.label or next(usual, None)


def split_name(dataset: InputDataset, table: Table) -> str | None:
    """Return the column that says which split a row belongs to, if there is one."""
    return dataset.columns.split or next((name for name in SPLIT_NAMES if name in table.columns), None)
