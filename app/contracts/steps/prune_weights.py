"""Options of `prune_weights`."""

from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import RetrainedSpec


class PruneWeights(RetrainedSpec):
    """Set the smallest weights to zero and keep them there."""

    title: ClassVar[str] = "Prune weights"
    summary: ClassVar[str] = "Set the weights of least magnitude to zero, keep them zero, retrain the rest."
    paper: ClassVar[str] = "https://arxiv.org/abs/1710.01878"

    technique: Literal["prune_weights"] = "prune_weights"
    sparsity: float = Field(0.5, gt=0, lt=1, description="share of the weights that become zero")
    threshold: float | None = Field(None, gt=0, description="prune |w| below this instead of a share")
    scope: Literal["global", "layer"] = Field("global", description="one ranking for all tensors, or one per tensor")
    schedule: Literal["one_shot", "cubic"] = Field(
        "cubic", description="all at once, or along Zhu & Gupta's cubic ramp while retraining"
    )
    pattern: Literal["2:4", "1:4", "4:8"] | None = Field(
        None, description="N:M pattern along the input dimension; replaces sparsity"
    )
