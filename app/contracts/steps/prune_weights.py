"""Options of `prune_weights`."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from app.contracts.steps.base import RetrainedSpec


class PruneWeights(RetrainedSpec):
    """Set the weights that matter least to zero and keep them there."""

    title: ClassVar[str] = "Prune weights"
    summary: ClassVar[str] = "Set the weights that matter least to zero, keep them zero, retrain the rest."
    paper: ClassVar[str] = "https://arxiv.org/abs/1710.01878"

    technique: Literal["prune_weights"] = "prune_weights"
    sparsity: float = Field(0.5, gt=0, lt=1, description="share of the weights that become zero")
    importance: Literal["magnitude", "movement"] = Field(
        "magnitude",
        description="which go: the smallest, or those that training moves to zero (cubic schedule alone)",
    )
    threshold: float | None = Field(None, gt=0, description="prune |w| below this instead of a share")
    scope: Literal["global", "layer"] = Field("global", description="one ranking for all tensors, or one per tensor")
    schedule: Literal["one_shot", "cubic"] = Field(
        "cubic", description="all at once, or along Zhu & Gupta's cubic ramp while retraining"
    )
    pattern: Literal["2:4", "1:4", "4:8"] | None = Field(
        None, description="N:M pattern along the input dimension; replaces sparsity"
    )

    @property
    def data_needed(self) -> bool:
        """Whether retraining is asked for outright, or is what weights are chosen by."""
        return super().data_needed or self.importance == "movement"

    @property
    def ramped(self) -> bool:
        """Whether weights go while the model trains, if it does."""
        return self.pattern is None and self.threshold is None and self.schedule == "cubic"

    @model_validator(mode="after")
    def _movement_is_learned(self) -> "PruneWeights":
        if self.importance == "movement" and (self.epochs == 0 or not self.ramped):
            msg = (
                "movement is learned while the sparsity rises: set schedule to cubic, epochs above 0 and no threshold "
                "or pattern, or set importance to magnitude"
            )
            raise ValueError(msg)
        return self
