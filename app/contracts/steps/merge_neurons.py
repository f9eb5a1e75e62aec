"""Options of `merge_neurons`."""

from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import RetrainedSpec


class MergeNeurons(RetrainedSpec):
    """Let one neuron stand for several alike: the mean of what enters them, the sum of what leaves them."""

    title: ClassVar[str] = "Merge neurons"
    summary: ClassVar[str] = "Cluster neurons and channels that are alike, keep one for each cluster, then retrain."
    paper: ClassVar[str] = "https://arxiv.org/abs/2010.13160"

    technique: Literal["merge_neurons"] = "merge_neurons"
    ratio: float = Field(0.5, gt=0, lt=1, description="share of the neurons that goes into others")
    similarity: Literal["activations", "weights"] = Field(
        "activations",
        description="alike is what is active together, or what has the same incoming weights; without data: weights",
    )
    clustering: Literal["agglomerative", "kmeans"] = Field(
        "agglomerative", description="how clusters are found: by merging the two nearest (Ward), or by k-means"
    )
    kinds: list[Literal["neurons", "channels", "hidden units"]] = Field(
        ["neurons", "channels"], min_length=1, description="which kinds of units may be merged; heads cannot"
    )
    multiple_of: int = Field(1, ge=1, le=256, description="what stays of a group is a multiple of this")
