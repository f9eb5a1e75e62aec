"""The rows that peers may calibrate on; runs in every peer's environment, so it needs numpy alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROWS = 128
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def batches(folder: Path, rows: int = ROWS) -> Iterator[dict[str, np.ndarray]]:
    """Yield the first training rows, one at a time, as the graph takes them."""
    with np.load(folder / "mails.npz") as mails:
        chosen = np.flatnonzero(mails["split"] == "train")[:rows]
        columns = {name: mails[name][chosen] for name in INPUTS}
    for row in range(len(chosen)):
        yield {name: values[row : row + 1] for name, values in columns.items()}
