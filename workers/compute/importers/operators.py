"""Which operator sets and operators are admitted."""

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
        "DynamicQuantizeMatMul",
        "EmbedLayerNormalization",
        "FastGelu",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "Gelu",
        "GroupQueryAttention",
        "LayerNormalization",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MultiHeadAttention",
        "QAttention",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QuantizeLinear",
        "QuickGelu",
        "RotaryEmbedding",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)


def check(model: onnx.ModelProto) -> None:
    """Raise ModelUnsupported, naming the node, for opsets, domains, operators or control flow that are not admitted."""
    opset = opset_of(model)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ModelUnsupported(f"The model uses opset {opset}; opsets {OLDEST_OPSET} to {NEWEST_OPSET} are supported.")
    if model.training_info:
        raise ModelUnsupported("The file carries training graphs; export the model for inference.")
    versions = {entry.domain: entry.version for entry in model.opset_import}
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
    domain = "" if node.domain in STANDARD else node.domain
    version = opset if not domain else versions.get(domain, 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=version, domain=domain)
    except onnx.defs.SchemaError as error:
        raise ModelUnsupported(f"{_named(node)} is not an operator of opset {version}.") from error
    if schema.deprecated:
        raise ModelUnsupported(f"{_named(node)} was withdrawn before opset {version}.")


def _named(node: onnx.NodeProto) -> str:
    name = node.name or (node.output[0] if node.output else "")
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"Node {shown(name)!r} ({shown(kind)})"
