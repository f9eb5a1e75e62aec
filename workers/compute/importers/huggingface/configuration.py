"""Read config.json of the BERT family by our own schema: allow-listed architectures, bounded numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import ModelMalformed, ModelUnsupported
from workers.compute.importers.huggingface.folder import Json
from workers.compute.wording import shown

MAX_LAYERS = 128
_MAX_WIDTH = 1 << 20
_ACTIVATIONS = {"gelu": "none", "gelu_python": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "relu": "relu"}
# Names that DistilBERT gives to the same numbers.
_DISTILBERT = {
    "hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim", "hidden_act": "activation",
}  # fmt: skip
MODEL_TYPES = ("bert", "distilbert", "roberta", "xlm-roberta")


@dataclass(frozen=True)
class Configuration:
    """An encoder's dimensions. `activation` is Gelu's `approximate` attribute, or "relu"."""

    model_type: str
    hidden: int
    heads: int
    layers: int
    intermediate: int
    activation: str
    epsilon: float
    pad_id: int
    labels: tuple[str, ...]

    @property
    def head_width(self) -> int:
        """Features per attention head."""
        return self.hidden // self.heads


def read_configuration(config: Mapping[str, Json]) -> Configuration:
    """Check and return the configuration. Raises ModelUnsupported, ModelMalformed."""
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        known = ", ".join(MODEL_TYPES)
        raise ModelUnsupported(f"The architecture {shown(str(model_type))!r} is not read; {known} are. Or upload ONNX.")
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise ModelUnsupported("Only encoders with absolute position embeddings are read; or upload ONNX.")
    names = _DISTILBERT if model_type == "distilbert" else {}
    activation = config.get(names.get("hidden_act", "hidden_act"), "gelu")
    if activation not in _ACTIVATIONS:
        raise ModelUnsupported(f"The activation {shown(str(activation))!r} is not read; gelu and relu are.")
    numbers = {
        key: _number(config, names.get(key, key), _MAX_WIDTH)
        for key in ("hidden_size", "num_attention_heads", "intermediate_size")
    }
    found = Configuration(
        model_type=str(model_type),
        hidden=numbers["hidden_size"],
        heads=numbers["num_attention_heads"],
        layers=_number(config, names.get("num_hidden_layers", "num_hidden_layers"), MAX_LAYERS),
        intermediate=numbers["intermediate_size"],
        activation=_ACTIVATIONS[str(activation)],
        epsilon=_epsilon(config),
        pad_id=_pad_id(config),
        labels=_labels(config),
    )
    if found.hidden % found.heads:
        raise ModelMalformed("config.json: hidden_size is not a multiple of num_attention_heads.")
    return found


def _number(config: Mapping[str, Json], key: str, most: int) -> int:
    value = config.get(key)
    if type(value) is not int or not 0 < value <= most:
        raise ModelMalformed(f"config.json: {key} must be a whole number from 1 to {most:,}.")
    return value


def _epsilon(config: Mapping[str, Json]) -> float:
    value = config.get("layer_norm_eps", 1e-12)
    if not isinstance(value, float) or not 0 < value < 1:
        raise ModelMalformed("config.json: layer_norm_eps must be a number between 0 and 1.")
    return value


def _pad_id(config: Mapping[str, Json]) -> int:
    value = config.get("pad_token_id")
    return value if isinstance(value, int) and 0 <= value < _MAX_WIDTH else 1


def _labels(config: Mapping[str, Json]) -> tuple[str, ...]:
    """Return the classes' names in order of their numbers; none when config.json does not say."""
    named = config.get("id2label")
    if named is None:
        return ()
    if not isinstance(named, dict) or not all(isinstance(label, str) and len(label) <= 200 for label in named.values()):  # noqa: PLR2004  # the contract's length of a name
        raise ModelMalformed("config.json: id2label must map numbers to names of at most 200 characters.")
    if set(named) != {str(number) for number in range(len(named))}:
        raise ModelMalformed("config.json: id2label must number its classes 0, 1, 2 …")
    return tuple(str(named[str(number)]) for number in range(len(named)))
