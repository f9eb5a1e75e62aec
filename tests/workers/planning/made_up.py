"""Surveys, and candidates with reports whose figures a test sets."""

from collections.abc import Sequence
from typing import Any

from app.contracts.report import Quality, Report
from app.contracts.survey import Survey
from tests.app.seeds import REPORT
from workers.planning.trying import Candidate, Tried


def quality(split: str, accuracy: float, recalls: Sequence[float] = ()) -> dict[str, Any]:
    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": value, "high": value, "samples": 1000}

    per_class = {f"class {number}": estimate(recall) for number, recall in enumerate(recalls)}
    return {
        "split": split,
        "samples": 1000,
        "scores": {"accuracy": estimate(accuracy)},
        "recall_per_class": per_class,
    }


def survey(**changes: Any) -> Survey:
    """A text encoder of six layers with an accuracy of 0.98."""
    known: dict[str, Any] = {
        "rows": 4400,
        "labelled": True,
        "floating_inputs": False,
        "quality": Quality.model_validate(quality("validation", 0.98, [0.98, 0.98])),
        "parameters": 22_700_000,
        "macs": 750_000_000,
        "file_bytes": 90_000_000,
        "resident_bytes": 100_000_000,
        "p50_ms": 6.0,
        "layers": 6,
        "tables": 2,
        "neurons": 6,
        "heads": 6,
        "channels": 0,
        "batch_norms": 0,
    }
    return Survey.model_validate(known | changes)


def image_survey(**changes: Any) -> Survey:
    """A small convolutional network."""
    stack = {"layers": 0, "tables": 0, "neurons": 1, "heads": 0, "channels": 2, "floating_inputs": True}
    small = {"rows": 55_000, "parameters": 431_080, "macs": 2_293_000, "file_bytes": 1_725_295, "p50_ms": 0.14}
    return survey(**(stack | small | changes))


def tried(
    candidate: Candidate,
    file_bytes: int,
    accuracy: float,
    faster: float = 1.0,
    recalls: Sequence[float] = (),
    original_ms: float = 6.0,
) -> Tried:
    """A candidate that was measured; `accuracy` holds on validation rows, on test rows it is a point lower."""
    after = REPORT["after"] | {
        "file_bytes": file_bytes,
        "resident_bytes": file_bytes,
        "quality": quality("test", accuracy - 0.01),
    }
    latency = after["latency"][0] | {"p50_ms": original_ms / faster}
    latency["ratio"] = {"value": faster, "low": faster, "high": faster, "samples": 900}
    step = REPORT["steps"][0]
    measured = step["measurement"] | {"quality": quality("validation", accuracy, recalls)}
    report = REPORT | {
        "before": REPORT["before"] | {"file_bytes": 90_000_000, "quality": quality("test", 0.975)},
        "after": after | {"latency": [latency]},
        "steps": [step | {"measurement": measured}],
    }
    number = f"{abs(hash((candidate.name, candidate.round))) % 10**12:026d}"
    return Tried(candidate, f"job_{number}", Report.model_validate(report), f"art_{number}")
