"""Round weights to half precision (Micikevicius et al., 2018); the packer then writes them in 2 bytes and a cast.

ONNX Runtime 1.32 has no half-precision products on a CPU and would cast back and forth in every call. A cast of a
constant it folds at load, so arithmetic stays in float32 and takes no longer.
"""

import numpy as np

from app.contracts.steps.quantize_fp16 import QuantizeFp16
from app.errors import TechniqueNotApplicable
from workers.compute.graph.constraints import Codebook, Half, is_settled, zeros_of
from workers.compute.graph.distances import snr_db
from workers.compute.graph.model import Model
from workers.compute.graph.targets import is_table
from workers.compute.techniques.base import Context, Outcome

_MATRIX = 2


def apply(model: Model, spec: QuantizeFp16, context: Context) -> Outcome:  # noqa: ARG001  # no data and no seed
    """Return a copy with rounded weights. Raises TechniqueNotApplicable when there are none to round."""
    rounded = model.clone()
    large = _large(model, spec)
    free = [name for name in large if not _is_small(model, name)]
    promises = {
        name: Half(~zeros_of(model.constraints.get(name), model.read_floats(name)), spec.format) for name in free
    }
    fitting = {name: promise for name, promise in promises.items() if promise.reaches(model.read_floats(name))}
    if not large:
        raise TechniqueNotApplicable(_refusal(model, spec))
    for name, promise in fitting.items():
        rounded.constraints[name] = promise
        rounded.write(name, promise.project(model.read_floats(name)))
    pairs = [(model.read_floats(name), rounded.read_floats(name)) for name in fitting]
    notes = (
        [f"{len(fitting)} tensors are in {spec.format}: {snr_db(pairs):.1f} dB of signal over noise"] if pairs else []
    )
    if small := len(large) - len(free):
        notes.append(f"{small} tensors stay in the fewer values that an earlier step gave them")
    if far := len(free) - len(fitting):
        notes.append(f"{far} tensors have numbers beyond the range of {spec.format} and stay; bfloat16 has the range")
    return Outcome(rounded, tuple(notes))


def _large(model: Model, spec: QuantizeFp16) -> list[str]:
    """Return the float32 weights of rank 2 or more; vectors are few, and some are statistics that training moves."""
    found = {name: model.read(name) for name in model.weights()}
    names = [
        name
        for name, values in found.items()
        if values.ndim >= _MATRIX and values.dtype == np.float32 and values.size >= spec.min_size
    ]
    return [name for name in names if spec.embeddings or not is_table(model, name)]


def _refusal(model: Model, spec: QuantizeFp16) -> str:
    kinds = {str(model.read(name).dtype) for name in model.weights() if model.read(name).size >= spec.min_size}
    if kinds and "float32" not in kinds:
        return f"the weights are in {', '.join(sorted(kinds))}, not float32; leave quantize_fp16 out"
    return f"no float32 matrix, kernel or table has {spec.min_size} weights or more; lower min_size"


def _is_small(model: Model, name: str) -> bool:
    promise = model.constraints.get(name)
    return is_settled(promise) or isinstance(promise, Codebook)
