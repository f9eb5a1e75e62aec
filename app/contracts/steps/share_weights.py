"""Options of `share_weights`."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from app.contracts.steps.base import RetrainedSpec


class ShareWeights(RetrainedSpec):
    """Let the weights of a tensor share a few values, and train those values."""

    title: ClassVar[str] = "Share weights"
    summary: ClassVar[str] = "Cluster weights, or short runs of them, into a few shared ones and train those."
    paper: ClassVar[str] = "https://arxiv.org/abs/1510.00149"

    technique: Literal["share_weights"] = "share_weights"
    clusters: int = Field(32, ge=2, le=256, description="distinct values, or sub-vectors, in a codebook")
    init: Literal["linear", "density", "kmeans++"] = Field(
        "linear", description="first centroids: even over the range, by density, or k-means++, as for all sub-vectors"
    )
    scope: Literal["tensor", "block"] = Field(
        "tensor", description="one codebook for a tensor, or one for each block of its output channels"
    )
    block: Literal[16, 32, 64, 128, 256] = Field(64, description="output channels, or rows of a table, in a block")
    dimension: Literal[1, 2, 4, 8] = Field(
        1,
        description="weights along the input that make one entry of a codebook (product quantisation); where it does "
        "not divide, the next smaller",
    )
    assignment: Literal["fixed", "learned"] = Field(
        "fixed",
        description="which weights share a value: as clustered at first, or those that are nearest to it while both "
        "are trained, which recovers more with few clusters; for single values of a whole tensor",
    )
    min_size: int = Field(1024, ge=2, description="tensors with fewer weights are left alone")

    @model_validator(mode="after")
    def _single_values_are_assigned(self) -> Self:
        if self.assignment == "learned" and (self.dimension > 1 or self.scope == "block"):
            msg = "assignments are learned for single values of a whole tensor; leave dimension and scope out"
            raise ValueError(msg)
        return self
