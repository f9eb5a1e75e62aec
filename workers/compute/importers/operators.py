"""Which operator sets and operators are admitted."""

from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from app.errors import ModelUnsupported
from workers.compute.importers import walk
from workers.compute.wording import shown

OLDEST_OPSET, NEWEST_OPSET = 7, 25
STANDARD = ("", "ai.onnx")
# ONNX Runtime's own operators that its optimiser and quantiser write, and that need no file, library or device.
CONTRIB = frozenset(
    {
        "Attention",
        "BiasGelu",
        "DequantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "EmbedLayerNormalization",
        "ExpandDims",
        "FastGelu",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "GatherBlockQuantized",
        "GatherND",
        "Gelu",
        "GridSample",
        "GroupQueryAttention",
        "Inverse",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MultiHeadAttention",
        "NhwcMaxPool",
        "Pad",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearConv",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QLinearWhere",
        "QuantizeLinear",
        "QuickGelu",
        "Range",
        "RotaryEmbedding",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "TransposeMatMul",
        "Trilu",
        "Unique",
    }
)
# What it writes in the standard domain, also into opsets that do not have it.
_WRITTEN_EARLY = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})


def check(model: onnx.ModelProto) -> None:
    """Raise ModelUnsupported, naming the node, for opsets, domains, operators or control flow that are not admitted."""
    opset = opset_of(model)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ModelUnsupported(f"The model uses opset {opset}; opsets {OLDEST_OPSET} to {NEWEST_OPSET} are supported.")
    if model.training_info:
        raise ModelUnsupported("The file carries training graphs; export the model for inference.")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for function in model.functions:
        if function.domain in {*STANDARD, "com.microsoft", "ai.onnx.ml"}:
            what = shown(function.name)
            raise ModelUnsupported(f"Local function {what!r} puts itself in the place of an operator of its domain.")
    local = {(function.domain, function.name) for function in model.functions}
    for node in walk.nodes(model):
        if (node.domain, node.op_type) not in local:
            _admit(node, versions, opset)
        if any(True for _ in walk.nested_graphs([node])):
            raise ModelUnsupported(f"{_named(node)} holds a subgraph; control flow is not supported.")


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operator set; 1 if the file names none, as the standard says."""
    return max((entry.version for entry in model.opset_import if entry.domain in STANDARD), default=1)


def _admit(node: onnx.NodeProto, versions: dict[str, int], opset: int) -> None:
    if node.domain == "com.microsoft":
        if node.op_type not in CONTRIB:
            raise ModelUnsupported(f"{_named(node)} is not among the admitted operators of that domain.")
        return
    if node.domain not in {*STANDARD, "ai.onnx.ml"}:
        raise ModelUnsupported(f"{_named(node)} belongs to an unknown operator domain.")
    if _is_early(node, opset):
        return
    domain = "" if node.domain in STANDARD else node.domain
    version = opset if not domain else versions.get(domain, 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=version, domain=domain)
    except onnx.defs.SchemaError as error:
        raise ModelUnsupported(f"{_named(node)} is not an operator of opset {version}.") from error
    if schema.deprecated:
        raise ModelUnsupported(f"{_named(node)} was withdrawn before opset {version}.")


def _is_early(node: onnx.NodeProto, opset: int) -> bool:
    """Whether this is ONNX Runtime's operator in an opset of the standard domain that lacks it."""
    if node.domain not in STANDARD or node.op_type not in _WRITTEN_EARLY:
        return False
    known = onnx.defs.has(node.op_type)
    return not known or onnx.defs.get_schema(node.op_type).since_version > opset


@contextmanager
def checkable(model: onnx.ModelProto) -> Iterator[None]:
    """Put what ONNX Runtime wrote into the standard domain into its own while the standard's checker looks."""
    opset = opset_of(model)
    moved = [node for node in walk.nodes(model) if _is_early(node, opset)]
    spelled = [node.HasField("domain") for node in moved]
    names = [node.domain for node in moved]
    imported = any(entry.domain == "com.microsoft" for entry in model.opset_import)
    if moved and not imported:
        model.opset_import.add(domain="com.microsoft", version=1)
    for node in moved:
        node.domain = "com.microsoft"
    try:
        yield
    finally:
        for node, name, was_spelled in zip(moved, names, spelled, strict=True):
            node.domain = name
            if not was_spelled:
                node.ClearField("domain")
        if moved and not imported:
            del model.opset_import[-1]


def _named(node: onnx.NodeProto) -> str:
    name = node.name or (node.output[0] if node.output else "")
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"Node {shown(name)!r} ({shown(kind)})"
