"""Measure a model file on the same footing as the original. Knows no technique."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from app.contracts.report import Latency, Measurement, Quality
from workers.compute import bundles
from workers.compute.datasets.samples import Samples
from workers.compute.evaluation import predict
from workers.compute.feeds import feeds_for
from workers.compute.graph.costs import cost
from workers.compute.graph.model import Model
from workers.compute.runtime import SessionOptions, open_session
from workers.compute.scoring import Judge, Scores
from workers.compute.signature import Signature, signature_of
from workers.compute.timing import Racer, Setting, race

BATCH_SIZES = (1, 8)
Races = tuple[list[Latency], list[Latency]]  # a file's and the original's, batch size by batch size


@dataclass(frozen=True)
class Original:
    """The upload: its file, and what it takes and gives."""

    path: Path
    signature: Signature
    options: SessionOptions

    def open(self) -> ort.InferenceSession:
        """Return a new session."""
        return open_session(self.path, self.options)

    def races(self, file: Path, rows: Samples | None, seconds: float, seed: int) -> Races:
        """Time a file against the original at batch 1 and 8, or at the batch size that the file fixes.

        In new sessions: one that has answered large batches is a tenth slower from then on.
        """
        candidate, original = open_session(file, self.options), self.open()
        ours: list[Latency] = []
        theirs: list[Latency] = []
        fixed = self.signature.fixed_batch
        for size in [fixed] if fixed else BATCH_SIZES:
            feeds = feeds_for(self.signature, size, rows, seed)
            setting = Setting(size, self.options.threads, seed=seed)
            fast, slow = race(Racer(candidate, feeds), Racer(original, feeds), setting, seconds)
            ours.append(fast)
            theirs.append(slow)
        return ours, theirs


def quieter(first: Races, second: Races) -> Races:
    """Return of two races of the same two files, for each batch size, the one in which the original was faster.

    A neighbour on the same hardware makes all calls slower for seconds, and no counter of the system tells of it. The
    original alone decides, so that a file cannot choose the race that flatters it.
    """
    pairs = zip(zip(*first, strict=True), zip(*second, strict=True), strict=True)
    chosen = [min(pair, key=lambda one: one[1].p50_ms) for pair in pairs]
    return [ours for ours, _ in chosen], [theirs for _, theirs in chosen]


def open_original(path: Path, threads: int) -> Original:
    """Open the upload. Raises RuntimeRefused, ModelUnsupported."""
    options = SessionOptions(threads=threads)
    return Original(path, signature_of(open_session(path, options)), options)


def sized(model: Model, path: Path, sizes: Mapping[str, int]) -> Measurement:
    """Return what needs no run: weights, MACs and activations for one row, bytes of the model at `path`."""
    found = cost(model, sizes)
    return Measurement(
        parameters=found.parameters,
        nonzeros=found.nonzeros,
        macs=found.macs,
        activation_bytes=found.activation_bytes,
        peak_activation_bytes=found.peak_activation_bytes,
        file_bytes=bundles.size_bytes(path),
        zstd_bytes=bundles.zstd_bytes(path),
    )


def judged(session: ort.InferenceSession, rows: Samples, judge: Judge) -> tuple[Quality, Scores]:
    """Return the quality on the judge's rows and the scores behind it."""
    scores = predict(session, rows)
    return judge.quality(scores), scores
