"""Files as stock ONNX Runtime alone sees them: their answers on the test mails, counted."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime


def session(file: Path, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    """Open a file on two threads; write the graph that ONNX Runtime makes of it where a path is named."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 2, 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def mails_to_test(folder: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return these columns of the test mails."""
    with np.load(folder / "mails.npz") as mails:
        chosen = mails["split"] == "test"
        return {name: mails[name][chosen] for name in names}


def right(file: Path, folder: Path) -> tuple[int, int]:
    """Return how many test mails the file alone classifies right, and of how many."""
    opened = session(file)
    rows = mails_to_test(folder, ["label", *(value.name for value in opened.get_inputs())])
    labels = rows.pop("label")
    logits = np.concatenate(
        [
            opened.run(None, {name: values[at : at + 64] for name, values in rows.items()})[0]
            for at in range(0, len(labels), 64)
        ]
    )
    return int((logits.argmax(axis=1) == labels).sum()), len(labels)
