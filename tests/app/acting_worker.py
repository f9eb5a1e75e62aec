"""Plays the worker's part at the stores: claims rows and ends them, as the supervisor does."""

from dataclasses import dataclass
from typing import Any

from app.contracts.checkpoint import Position
from app.contracts.job import JobState
from app.contracts.problem import Problem
from app.errors import ModelpressError
from app.problems import problem_of
from app.resources import Resources
from app.stores import checkpoints, records, work
from app.stores.sinks import Stored
from app.stores.tables import datasets, models

MODEL_SUMMARY = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 2]}],
    "parameters": 10,
    "opset": 20,
    "operators": {"Gemm": 1},
    "onnx_bytes": 200,
    "zstd_bytes": 150,
    "sha256": "a" * 64,
}
DATASET_SUMMARY = {"rows": 10, "columns": [], "sha256": "b" * 64}


@dataclass
class ActingWorker:
    resources: Resources

    def claim(self, work_id: str) -> work.Claim:
        with self.resources.database.transaction() as tx:
            held = work.claim(tx, work_id, "acting worker", lease_s=30, max_losses=3)
        assert held is not None
        return held

    def end(self, held: work.Claim, state: JobState, problem: Problem | None = None) -> None:
        with self.resources.database.transaction() as tx:
            assert work.finish(tx, held, state, problem)

    def standing(self, held: work.Claim) -> work.Standing:
        with self.resources.database.reading() as tx:
            return work.standing(tx, held)

    def leave_checkpoint(self, held: work.Claim, sha256: str = "c" * 64) -> None:
        position = Position(step=2, steps=3, technique="retrain", epoch=3, epochs=8)
        with self.resources.database.transaction() as tx:
            assert checkpoints.record(tx, held, Stored(sha256, 9), position).still_ours

    def accept_model(self, model_id: str, **changes: Any) -> None:
        held = self.claim(model_id)
        with self.resources.database.transaction() as tx:
            columns = {"summary": {**MODEL_SUMMARY, **changes}, "onnx_sha256": "a" * 64}
            records.change(tx, models, model_id, columns)
        self.end(held, JobState.SUCCEEDED)

    def accept_dataset(self, dataset_id: str) -> None:
        held = self.claim(dataset_id)
        with self.resources.database.transaction() as tx:
            records.change(tx, datasets, dataset_id, {"summary": DATASET_SUMMARY})
        self.end(held, JobState.SUCCEEDED)

    def reject(self, work_id: str, error: ModelpressError) -> None:
        self.end(self.claim(work_id), JobState.FAILED, problem_of(error))
