"""Tokenise text with the model's own tokenizer.json."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from app.errors import DatasetMismatch, ModelMalformed

# The model inputs that a tokenizer feeds.
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_BATCH_ROWS = 512
_MAX_TOKENIZER_BYTES = 64 << 20
_PADS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json. Raises ModelMalformed."""
    if path.stat().st_size > _MAX_TOKENIZER_BYTES:
        raise ModelMalformed("tokenizer.json is over 64 MiB.")
    try:
        return Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise ModelMalformed("tokenizer.json is not a readable tokenizer.") from error


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> dict[str, NDArray[np.int64]]:
    """Return `TOKEN_INPUTS`, each int64 (rows, max_length), cut and padded on the right."""
    pad = next((name for name in _PADS if tokenizer.token_to_id(name) is not None), None)
    if pad is None:
        raise DatasetMismatch("The tokenizer has no padding token.")
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding(length=max_length, pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    tokens = {name: np.zeros((len(texts), max_length), np.int64) for name in TOKEN_INPUTS}
    for start in range(0, len(texts), _BATCH_ROWS):
        rows = slice(start, start + _BATCH_ROWS)
        encodings = tokenizer.encode_batch(list(texts[rows]))
        tokens["input_ids"][rows] = [encoding.ids for encoding in encodings]
        tokens["attention_mask"][rows] = [encoding.attention_mask for encoding in encodings]
        tokens["token_type_ids"][rows] = [encoding.type_ids for encoding in encodings]
    return tokens
