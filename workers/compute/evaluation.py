"""Run an ONNX file over samples in ONNX Runtime. Knows no metric."""

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.errors import RuntimeRefused
from workers.compute.datasets.samples import Samples
from workers.compute.runtime import translated
from workers.compute.signature import Signature, signature_of

BATCH_ROWS = 64
MASK = "attention_mask"
# Per-token outputs are large: 64 tokens of 384 floats are 98 kB a row.
MAX_ROWS_PER_TOKEN_OUTPUT = 512
_MATRIX = 2


def predict(session: ort.InferenceSession, samples: Samples, batch_size: int = BATCH_ROWS) -> NDArray[np.float32]:
    """Return the scores, float32 (rows, ...). Raises RuntimeRefused when the runtime fails or the scores hold NaN.

    Text batches are cut to their longest row where the mask allows it. A file with a fixed batch axis is run at that
    size, the last batch filled up. Of outputs with more than one axis per row only the first 512 rows are taken.
    """
    signature = signature_of(session)
    if len(signature.scores.shape) > _MATRIX:
        samples = samples.take(slice(0, MAX_ROWS_PER_TOKEN_OUTPUT))
    size = signature.fixed_batch or batch_size
    scores = [_batch(session, signature, batch, size) for batch in samples.batches(size)]
    whole = np.concatenate(scores)
    if not np.isfinite(whole).all():
        row = int(np.argmin(np.isfinite(whole.reshape(len(whole), -1)).all(axis=1)))
        raise RuntimeRefused(f"The model's scores for row {row} are not finite.")
    return whole


def _batch(session: ort.InferenceSession, signature: Signature, batch: Samples, size: int) -> NDArray[np.float32]:
    rows = len(batch)
    if signature.fixed_batch and rows < size:
        batch = batch.take(np.resize(np.arange(rows), size))
    feeds = dict(batch.inputs) if len(signature.scores.shape) > _MATRIX else _trimmed(batch, signature)
    with translated("run"):
        (scores,) = session.run([signature.scores.name], feeds)
    if len(scores) != len(batch):
        raise RuntimeRefused(f"The model answers {len(batch)} rows with {len(scores)} rows of scores.")
    return np.asarray(scores[:rows], np.float32)


def _trimmed(batch: Samples, signature: Signature) -> dict[str, NDArray[np.generic]]:
    """Cut what lies beyond the longest row, from every input of the mask's shape and a free length axis."""
    feeds = dict(batch.inputs)
    mask = feeds.get(MASK)
    if mask is None or mask.ndim != _MATRIX:
        return feeds
    free = {spec.name for spec in signature.inputs if len(spec.shape) == _MATRIX and not isinstance(spec.shape[1], int)}
    if any(feed.shape == mask.shape and name not in free for name, feed in feeds.items()):
        return feeds
    used = np.flatnonzero(mask.any(axis=0))
    length = int(used[-1]) + 1 if len(used) else 1
    return {name: feed[:, :length] if feed.shape == mask.shape else feed for name, feed in feeds.items()}
