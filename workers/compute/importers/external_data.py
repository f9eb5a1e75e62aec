"""A single-file upload keeps its weights inside: any reference to another file is refused, wherever it hides."""

import onnx

from app.errors import ModelExternalData
from workers.compute.importers import walk
from workers.compute.wording import shown


def refuse(model: onnx.ModelProto) -> None:
    """Raise ModelExternalData if any tensor of any graph, function or attribute names another file."""
    for tensor in walk.tensors(model):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelExternalData(f"Tensor {shown(tensor.name)!r} refers to data outside the file.")
