"""Options of `share_weights`."""

from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import RetrainedSpec


class ShareWeights(RetrainedSpec):
    """Let the weights of a tensor share a few values, and train those values."""

    title: ClassVar[str] = "Share weights"
    summary: ClassVar[str] = "Cluster each tensor's weights into a few shared values and train the values."
    paper: ClassVar[str] = "https://arxiv.org/abs/1510.00149"

    technique: Literal["share_weights"] = "share_weights"
    clusters: int = Field(32, ge=2, le=256, description="distinct values per tensor")
    init: Literal["linear", "density", "kmeans++"] = Field(
        "linear", description="first centroids: even over the range, by density, or k-means++"
    )
    min_size: int = Field(1024, ge=2, description="tensors with fewer weights are left alone")
