"""Options of `fold_batch_norm`."""

from typing import ClassVar, Literal

from app.contracts.steps.base import StepSpec


class FoldBatchNorm(StepSpec):
    """Make batch normalization part of the weights before it."""

    title: ClassVar[str] = "Fold batch normalization"
    summary: ClassVar[str] = (
        "Multiply batch normalization into the convolution before it: one number per channel is left of four, "
        "same answers. For the end of a recipe: training goes better with it."
    )
    paper: ClassVar[str] = "https://arxiv.org/abs/1712.05877"

    technique: Literal["fold_batch_norm"] = "fold_batch_norm"
