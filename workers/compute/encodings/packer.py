"""The last step before publishing: gives each tensor its smallest lossless encoding, whatever technique made it so.

Every decode subgraph is run in ONNX Runtime before it is used; one that does not give back the very same bits is not.
The time that this takes is what the tensor will cost when the file is loaded.
"""

import itertools
import string
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime

from app.contracts.report import TensorReport
from workers.compute.encodings import ENCODINGS
from workers.compute.encodings.base import Array, Contents, Encoded
from workers.compute.graph.model import MAX_FOLDED_ELEMENTS, Model
from workers.compute.graph.readers import readers

# A decode subgraph costs some 0.3 to 0.6 kB of operators and small constants.
MIN_BYTES = 1024
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
PACKABLE = frozenset({*_FLOATS, ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32, ir.DataType.INT64})
_ERRORS_ONLY = 3  # ONNX Runtime's log severity
_PLAIN_OPSET, _PLAIN_IR_VERSION = 13, 8


@dataclass(frozen=True)
class Packed:
    """The packed model and one record for every tensor of 1 kB or more.

    `slow` counts the tensors that are stored larger than could be, so that loading takes no longer than allowed.
    """

    model: Model
    tensors: tuple[TensorReport, ...]
    slow: int = 0


@dataclass(frozen=True)
class Option:
    """One way to store a tensor: its bytes with decode subgraph, and the milliseconds that loading it adds."""

    encoding: str
    encoded: Encoded
    size_bytes: int
    load_ms: float


@dataclass
class _Choice:
    """A tensor and how it is stored; `left` names the encodings that were given up as too slow to load."""

    report: TensorReport
    value: ir.Value
    number: int
    option: Option
    left: tuple[str, ...] = ()

    @property
    def cost(self) -> float:
        """Milliseconds of loading for each byte saved."""
        return self.option.load_ms / max(1, self.report.dense_bytes - self.option.size_bytes)


def pack(model: Model, max_load_ms: float | None = None) -> Packed:
    """Return a copy of `model` in which each large tensor is stored in the fewest bytes, and what was chosen.

    Where decoding at load would take more than `max_load_ms` in all, the encodings that take longest for each byte
    saved give way to quicker ones. That depends on the machine's speed; without a limit the same model gives the same
    bytes.
    """
    packed = model.clone()
    start = next(iter(packed.graph), None)
    if start is None:
        return Packed(packed, ())
    candidates = [value for value in packed.graph.initializers.values() if _packable(value)]
    packer = _Packer(packed, _unused_prefix(packed), _opening_ms())
    choices = [packer.choose(value, number) for number, value in enumerate(candidates)]
    if max_load_ms is not None:
        packer.hasten(choices, max_load_ms)
    for choice in choices:
        if choice.option.encoded.nodes:
            _replace(packed.graph, choice.value, choice.option.encoded, start)
    made = [*packed.graph.initializers.values(), *(output for node in packed.graph for output in node.outputs)]
    _number([value for value in made if str(value.name).startswith(packer.prefix)], packer.prefix)
    reports = tuple(_stored(choice.report, choice.option) for choice in choices)
    return Packed(packed, reports, sum(bool(choice.left) for choice in choices))


@dataclass(frozen=True)
class _Packer:
    """Chooses for the tensors of one model. A tensor's statistics are as large as it is and not kept."""

    model: Model
    prefix: str
    opening_ms: float

    def choose(self, value: ir.Value, number: int) -> _Choice:
        """Return the smallest option for a tensor."""
        contents = self._contents(value, number)
        return _Choice(_report(value, contents), value, number, next(self._options(contents)))

    def hasten(self, choices: Sequence[_Choice], max_load_ms: float) -> None:
        """Replace options, the dearest first, until loading takes no longer than this."""
        while sum(choice.option.load_ms for choice in choices) > max_load_ms:
            dearest = max(choices, key=lambda choice: choice.cost)
            dearest.left = (*dearest.left, dearest.option.encoding)
            options = self._options(self._contents(dearest.value, dearest.number), dearest.left)
            dearest.option = next(option for option in options if option.load_ms < dearest.option.load_ms)

    def _contents(self, value: ir.Value, number: int) -> Contents:
        name = str(value.name)
        return Contents(name, self.model.read(name), self.prefix, number)

    def _options(self, contents: Contents, without: Collection[str] = ()) -> Iterator[Option]:
        """Yield what is smaller than dense and gives the bits back, smallest first, then dense."""
        opset, ir_version = self.model.graph.opset_imports.get("", 0), self.model.ir.ir_version
        tried = {name: encode for name, encode in ENCODINGS.items() if name not in {"dense", *without}}
        found = [(name, encoded) for name, encode in tried.items() if (encoded := encode(contents, opset)) is not None]
        # Names and operators count: in a small tensor they outweigh what one encoding's constants save over another's.
        files = [(name, encoded, decoder_file(encoded, opset, ir_version)) for name, encoded in found]
        for name, encoded, file in sorted(files, key=lambda option: len(option[2])):
            if len(file) < contents.values.nbytes and (load_ms := _decoded_ms(file, contents)) is not None:
                yield Option(name, encoded, len(file), max(0.0, load_ms - self.opening_ms))
        dense = ENCODINGS["dense"](contents, opset)
        if dense is None:
            msg = f"the dense encoding refused {contents.name}"
            raise RuntimeError(msg)
        yield Option("dense", dense, dense.constant_bytes, 0.0)


def _unused_prefix(model: Model) -> str:
    """Return the beginning of a name that no value of the model has, a letter if there is one."""
    taken = {str(value.name) for node in model.graph.all_nodes() for value in (*node.inputs, *node.outputs) if value}
    taken.update(model.graph.initializers)
    longer = ("packed" + "_" * count for count in itertools.count())
    return next(
        prefix
        for prefix in itertools.chain(string.ascii_lowercase, longer)
        if not any(name.startswith(prefix) for name in taken)
    )


def _packable(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.nbytes < MIN_BYTES or tensor.size > MAX_FOLDED_ELEMENTS or tensor.dtype not in PACKABLE:
        return False
    return bool(value.uses()) and not value.is_graph_output() and not value.is_graph_input()


def decoder_file(encoded: Encoded, opset: int, ir_version: int) -> bytes:
    """Return a whole ONNX file without inputs whose one output is the decoded tensor."""
    graph = ir.Graph(
        [], [encoded.output], nodes=encoded.nodes, initializers=encoded.constants, opset_imports={"": opset}, name="g"
    )
    _forget_names(encoded)
    added = [*encoded.constants, *(node.outputs[0] for node in encoded.nodes[:-1])]
    names = [value.name for value in added]
    _number(added, "pq"[str(encoded.output.name).startswith("p")])
    file: bytes = ir.serde.serialize_model(ir.Model(graph, ir_version=ir_version)).SerializeToString()
    for value, name in zip(added, names, strict=True):
        value.name = name
    graph.outputs.clear()
    graph.remove(encoded.nodes)
    graph.initializers.clear()
    return file


def _decoded_ms(file: bytes, contents: Contents) -> float | None:
    """Return the milliseconds to open the decoder's file, or None if the bits are not those of `contents`.

    Opening is what decodes: the session that comes of it holds a plain tensor.
    """
    started = time.perf_counter()
    session = _opened(file)
    took_ms = 1000 * (time.perf_counter() - started)
    (decoded,) = session.run(None, {})
    same_kind = decoded.dtype == contents.values.dtype and decoded.shape == contents.values.shape
    same = same_kind and np.array_equal(Contents(contents.name, decoded).bits, contents.bits)
    return took_ms if same else None


def _opening_ms() -> float:
    """Return the milliseconds to open a file that decodes nothing to speak of: every check pays them."""
    nothing = Contents("nothing", np.zeros((4, 4), np.float32))
    encoded = ENCODINGS["codebook"](nothing, _PLAIN_OPSET)
    if encoded is None:
        return 0.0
    file = decoder_file(encoded, _PLAIN_OPSET, _PLAIN_IR_VERSION)
    return min(_decoded_ms(file, nothing) or 0.0 for _ in range(3))


def _opened(file: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = 1  # to start more would take longer than most tensors
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _replace(graph: ir.Graph, value: ir.Value, encoded: Encoded, start: ir.Node) -> None:
    del graph.initializers[str(value.name)]
    value.replace_all_uses_with(encoded.output)
    for constant in encoded.constants:
        known = graph.initializers.get(str(constant.name))
        if known is None:
            graph.register_initializer(constant)
        else:
            constant.replace_all_uses_with(known)
    graph.insert_before(start, encoded.nodes)
    _forget_names(encoded)


def _number(added: Iterable[ir.Value], prefix: str) -> None:
    """Give values the shortest names there are: the file holds every name several times."""
    for number, value in enumerate(added):
        value.name = prefix + np.base_repr(number, 36).lower()


def _forget_names(encoded: Encoded) -> None:
    """Take off the names that a graph gives to nodes: nobody looks for these, and they are long."""
    for node in encoded.nodes:
        node.name = None


def _report(value: ir.Value, contents: Contents) -> TensorReport:
    array: Array = contents.values
    return TensorReport(
        name=contents.name,
        operator=_operator(value),
        shape=list(array.shape),
        parameters=array.size,
        nonzeros=int(np.count_nonzero(array)),
        unique_values=int(contents.distinct.size),
        encoding="dense",
        bits_per_weight=8.0 * array.itemsize,
        entropy_bits_per_weight=contents.entropy_bits,
        dense_bytes=array.nbytes,
        packed_bytes=array.nbytes,
        snr_db=None,
    )


def _stored(report: TensorReport, option: Option) -> TensorReport:
    bits = 8 * option.size_bytes / report.parameters
    found = {"encoding": option.encoding, "packed_bytes": option.size_bytes, "bits_per_weight": bits}
    return report.model_copy(update={**found, "load_ms": option.load_ms})


def _operator(value: ir.Value) -> str:
    """Return the type of the first operator that computes with this weight."""
    found = next(readers(value), None)
    return "output" if found is None else found.node.op_type
