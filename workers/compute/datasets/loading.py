"""Load a data set for a model: the only way from a file to samples."""

from pathlib import Path

import numpy as np

from app.contracts.tasks import InputDataset
from app.errors import DatasetMismatch
from workers.compute.datasets.fitting import Target, fit_inputs
from workers.compute.datasets.labels import Labels, read_labels
from workers.compute.datasets.reading import label_name, read_table, split_name
from workers.compute.datasets.samples import Dataset, Samples, Task
from workers.compute.datasets.splitting import named, split_rows
from workers.compute.datasets.table import Table


def load_dataset(dataset: InputDataset, scratch: Path, target: Target, task: Task) -> Dataset:
    """Return the three splits, ready for the model; task `match` leaves labels out.

    Raises what the readers raise, and DatasetMismatch, which names the input, row or value.
    """
    table = read_table(dataset, scratch)
    inputs = fit_inputs(dataset, table, target)
    labels = None if task == "match" else _labels(dataset, table, target, task)
    split = split_name(dataset, table)
    stratify = labels.values if labels is not None and task == "classification" else None
    given = table.columns[split] if split else None
    rows = split_rows(given, stratify, dataset.splits, table.rows)
    samples = Samples(inputs, None if labels is None else labels.values, np.arange(table.rows))
    return Dataset(
        train=samples.take(rows["train"]),
        validation=samples.take(rows["validation"]),
        test=samples.take(rows["test"]),
        task=task,
        classes=labels.classes if labels is not None else target.classes,
        drawn=given is not None and named(given) == {"train", "test"},
    )


def _labels(dataset: InputDataset, table: Table, target: Target, task: Task) -> Labels:
    name = label_name(dataset, table)
    if name is None:
        raise DatasetMismatch(
            f"Task {task} needs labels, and no column is called label or y; "
            "name it with `columns.label`, or use task match, which needs none."
        )
    return read_labels(table.column(name), task, target.classes, target.width)
