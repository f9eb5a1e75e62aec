"""The BERT family as an ONNX graph: BERT, RoBERTa and DistilBERT differ in names, positions and heads only.

Follows Devlin et al. 2019 (arXiv 1810.04805), post-normalisation.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from workers.compute.importers.huggingface.configuration import Configuration
from workers.compute.importers.huggingface.drawing import Drawing, integer_input
from workers.compute.importers.huggingface.safetensors_file import Weights

# Added to the scores of masked tokens, as the first BERT did: its exponential is 0, and it survives float16.
_MASKED = -10_000.0


@dataclass(frozen=True)
class Names:
    """Where an architecture keeps the weights of a layer; `{}` is its number."""

    prefix: str
    layer: str = "encoder.layer.{}."
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attended: str = "attention.output.dense"
    attended_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm: str = "output.LayerNorm"


BERT, ROBERTA = Names("bert."), Names("roberta.")
DISTILBERT = Names(
    prefix="distilbert.",
    layer="transformer.layer.{}.",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attended="attention.out_lin",
    attended_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    norm="output_layer_norm",
)
_NAMES = {"bert": BERT, "distilbert": DISTILBERT, "roberta": ROBERTA, "xlm-roberta": ROBERTA}


def draw(configuration: Configuration, weights: Weights) -> ir.Model:
    """Return the graph: int64 inputs (batch, sequence); `logits` with a classifier, else hidden states.

    Initializers bear the names of the safetensors file. Raises ModelMalformed for missing or misshapen weights.
    """
    names = _NAMES[configuration.model_type]
    drawing = Drawing(weights, names.prefix)
    kinds = ["input_ids", "attention_mask"] + (["token_type_ids"] if configuration.model_type == "bert" else [])
    inputs = {name: integer_input(name) for name in kinds}
    hidden = _embeddings(drawing, configuration, inputs)
    drawing.at("mask")
    visible = drawing.op("Cast", inputs["attention_mask"], to=ir.DataType.FLOAT.value)
    hidden_part = drawing.op("Sub", drawing.constant("one", np.array([1.0], np.float32)), visible)
    mask = drawing.op("Mul", hidden_part, drawing.constant("masked", np.array([_MASKED], np.float32)))
    mask = drawing.op("Unsqueeze", mask, drawing.constant("mask_axes", np.array([1, 2], np.int64)))
    for number in range(configuration.layers):
        hidden = _layer(drawing, configuration, names, names.layer.format(number), hidden, mask)
    return drawing.finish(list(inputs.values()), _outputs(drawing, configuration, hidden))


def _embeddings(drawing: Drawing, configuration: Configuration, inputs: dict[str, ir.Value]) -> ir.Value:
    drawing.at("embeddings")
    ids = inputs["input_ids"]
    words = drawing.op("Gather", _table(drawing, "word", configuration), ids)
    if configuration.model_type == "bert":
        types = drawing.op("Gather", _table(drawing, "token_type", configuration), inputs["token_type_ids"])
        words = drawing.op("Add", words, types)
    elif drawing.holds("embeddings.token_type_embeddings.weight"):  # RoBERTa has one type, and no input for it
        first = drawing.constant("first_type", np.array(0, np.int64))
        words = drawing.op("Add", words, drawing.op("Gather", _table(drawing, "token_type", configuration), first))
    summed = drawing.op("Add", words, _positions(drawing, configuration, ids))
    return drawing.norm(summed, "embeddings.LayerNorm", configuration.hidden, configuration.epsilon)


def _table(drawing: Drawing, kind: str, configuration: Configuration) -> ir.Value:
    name = f"embeddings.{kind}_embeddings.weight"
    return drawing.weight(name, [*drawing.shape(name)[:1], configuration.hidden])


def _positions(drawing: Drawing, configuration: Configuration, ids: ir.Value) -> ir.Value:
    table = _table(drawing, "position", configuration)
    if not configuration.model_type.endswith("roberta"):
        axis = drawing.constant("sequence_axis", np.array(1, np.int64))
        length = drawing.op("Gather", drawing.op("Shape", ids), axis)
        start, step = drawing.constant("zero", np.array(0, np.int64)), drawing.constant("step", np.array(1, np.int64))
        return drawing.op("Gather", table, drawing.op("Range", start, length, step))
    # RoBERTa counts the tokens that are not padding, from one beyond the padding's own number.
    pad = drawing.constant("pad", np.array(configuration.pad_id, np.int64))
    real = drawing.op("Cast", drawing.op("Not", drawing.op("Equal", ids, pad)), to=ir.DataType.INT64.value)
    counted = drawing.op("CumSum", real, drawing.constant("sequence_axis", np.array(1, np.int64)))
    return drawing.op("Gather", table, drawing.op("Add", drawing.op("Mul", counted, real), pad))


def _layer(
    drawing: Drawing, configuration: Configuration, names: Names, place: str, hidden: ir.Value, mask: ir.Value
) -> ir.Value:
    width, epsilon = configuration.hidden, configuration.epsilon
    attended = _attention(
        drawing, configuration, [place + part for part in (names.query, names.key, names.value)], hidden, mask
    )
    attended = drawing.linear(attended, place + names.attended, (width, width))
    attended = drawing.norm(drawing.op("Add", attended, hidden), place + names.attended_norm, width, epsilon)
    up = drawing.linear(attended, place + names.up, (width, configuration.intermediate))
    active = (
        drawing.op("Relu", up)
        if configuration.activation == "relu"
        else drawing.op("Gelu", up, approximate=configuration.activation)
    )
    down = drawing.linear(active, place + names.down, (configuration.intermediate, width))
    return drawing.norm(drawing.op("Add", down, attended), place + names.norm, width, epsilon)


def _attention(
    drawing: Drawing, configuration: Configuration, names: list[str], hidden: ir.Value, mask: ir.Value
) -> ir.Value:
    """Softmax(q·kᵀ / √d + mask)·v for all heads; `names` are those of query, key and value."""
    split = drawing.constant("heads", np.array([0, 0, configuration.heads, configuration.head_width], np.int64))
    joined = drawing.constant("joined", np.array([0, 0, configuration.hidden], np.int64))
    parts = []
    for name, order in zip(names, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True):
        part = drawing.linear(hidden, name, (configuration.hidden, configuration.hidden))
        parts.append(drawing.op("Transpose", drawing.op("Reshape", part, split), perm=order))
    query, key, value = parts
    drawing.at(names[0].rpartition(".")[0])
    scale = drawing.constant("scale", np.array([configuration.head_width**-0.5], np.float32))
    scores = drawing.op("Add", drawing.op("Mul", drawing.op("MatMul", query, key), scale), mask)
    mixed = drawing.op("MatMul", drawing.op("Softmax", scores, axis=-1), value)
    return drawing.op("Reshape", drawing.op("Transpose", mixed, perm=[0, 2, 1, 3]), joined)


Outputs = dict[str, tuple[ir.Value, list[int | str]]]


def _outputs(drawing: Drawing, configuration: Configuration, hidden: ir.Value) -> Outputs:
    width, kind = configuration.hidden, configuration.model_type
    final = "classifier.out_proj" if kind.endswith("roberta") else "classifier"
    if drawing.holds(f"{final}.weight"):
        classes = drawing.shape(f"{final}.weight")[0]
        pooled = _pooled(drawing, configuration, hidden)
        return {"logits": (drawing.linear(pooled, final, (width, classes)), ["batch", classes])}
    outputs: Outputs = {"last_hidden_state": (hidden, ["batch", "sequence", width])}
    if kind != "distilbert" and drawing.holds("pooler.dense.weight"):
        outputs["pooler_output"] = (_first_token(drawing, "pooler.dense", "Tanh", hidden, width), ["batch", width])
    return outputs


def _pooled(drawing: Drawing, configuration: Configuration, hidden: ir.Value) -> ir.Value:
    if configuration.model_type == "distilbert":
        return _first_token(drawing, "pre_classifier", "Relu", hidden, configuration.hidden)
    dense = "pooler.dense" if configuration.model_type == "bert" else "classifier.dense"
    return _first_token(drawing, dense, "Tanh", hidden, configuration.hidden)


def _first_token(drawing: Drawing, dense: str, activation: str, hidden: ir.Value, width: int) -> ir.Value:
    drawing.at(dense)
    first = drawing.op("Gather", hidden, drawing.constant("first_token", np.array(0, np.int64)), axis=1)
    return drawing.op(activation, drawing.linear(first, dense, (width, width)))
