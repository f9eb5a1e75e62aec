"""Applying one step to a small model."""

from pathlib import Path
from typing import Any

from app.contracts.steps.base import StepSpec
from tests.workers.graph.networks import dataset_for
from workers.compute.graph.model import Model
from workers.compute.techniques import TECHNIQUES
from workers.compute.techniques.base import Context, Outcome


def take(spec: StepSpec, model: Model, folder: Path, **changes: Any) -> Outcome:
    """Apply a step; `changes` are fields of the context."""
    settings: dict[str, Any] = {"original": model, "dataset": dataset_for(model), "threads": 1, **changes}
    context = Context(scratch=folder, **{"progress": lambda _share, _point: None, **settings})
    return TECHNIQUES[type(spec).model_fields["technique"].default](model, spec, context)
