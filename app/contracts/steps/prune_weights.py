"""Options of `prune_weights`."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from app.contracts.steps.base import RetrainedSpec, StepSpec


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
    schedule: Literal["one_shot", "cubic", "iterative"] = Field(
        "cubic",
        description="all at once; along Zhu & Gupta's cubic ramp while retraining; or in rounds, each retrained",
    )
    rounds: int = Field(3, ge=2, le=100, description="of the iterative schedule; each has its share of the epochs")
    rewind: Literal["none", "learning_rate", "weights"] = Field(
        "learning_rate",
        description="what each round begins anew: nothing (the rate goes on falling), the learning rate's schedule, or "
        "also the weights that are left, from their values before this step",
    )
    pattern: Literal["2:4", "1:4", "4:8"] | None = Field(
        None, description="N:M pattern along the input dimension; replaces sparsity"
    )

    def trains_before(self, later: StepSpec | None) -> bool:
        """Whether there is retraining, which a choice by training does not leave to the next step."""
        return self.chooses_by_training or super().trains_before(later)

    @property
    def data_needed(self) -> bool:
        """Whether retraining is asked for outright, or is what weights are chosen by."""
        return super().data_needed or self.chooses_by_training

    @property
    def chooses_by_training(self) -> bool:
        """Whether which weights go depends on training of this step's own."""
        return self.importance == "movement" or self.schedule == "iterative"

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

    @model_validator(mode="after")
    def _rounds_are_retrained(self) -> "PruneWeights":
        at_once = self.pattern is not None or self.threshold is not None
        if self.schedule == "iterative" and (self.epochs == 0 or at_once):
            msg = (
                "each round of the iterative schedule prunes a share and retrains: set epochs above 0 and no threshold "
                "or pattern, or set schedule to one_shot"
            )
            raise ValueError(msg)
        return self
