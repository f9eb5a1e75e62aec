"""From a zipped folder to `model.onnx` and `tokenizer.json`."""

from pathlib import Path

import onnx_ir as ir

from app.errors import ModelMalformed
from workers.compute.importers.huggingface.configuration import read_configuration
from workers.compute.importers.huggingface.encoder import draw
from workers.compute.importers.huggingface.folder import open_folder


def import_folder(archive: Path, out: Path) -> list[str]:
    """Write the graph and the tokenizer into `out`; return the classes' names.

    Raises what `open_folder`, `read_configuration` and `draw` raise.
    """
    folder = open_folder(archive)
    configuration = read_configuration(folder.config)
    model = draw(configuration, folder.weights)
    width = next((value.shape[1] for value in model.graph.outputs if value.name == "logits" and value.shape), None)
    labels = list(configuration.labels) if width is not None else []
    if labels and len(labels) != width:
        raise ModelMalformed(f"config.json names {len(labels)} classes; the classifier has {width}.")
    ir.save(model, out / "model.onnx")
    if folder.tokenizer is not None:
        (out / "tokenizer.json").write_bytes(folder.tokenizer)
    return labels
