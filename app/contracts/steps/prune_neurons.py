"""Options of `prune_neurons`."""

from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import RetrainedSpec


class PruneNeurons(RetrainedSpec):
    """Remove neurons, channels and heads with everything that is coupled to them."""

    title: ClassVar[str] = "Prune neurons"
    summary: ClassVar[str] = "Remove whole neurons, channels and heads, least important first, then retrain."
    paper: ClassVar[str] = "https://arxiv.org/abs/1906.10771"

    technique: Literal["prune_neurons"] = "prune_neurons"
    ratio: float = Field(0.5, gt=0, lt=1, description="share of the units that goes")
    importance: Literal["taylor", "gradient_norm", "activation_variance", "magnitude"] = Field(
        "taylor",
        description="what makes a unit important: the loss without it (taylor), the size of its gradient, how much its"
        " activation varies, or its weights; without data: its weights",
    )
    scope: Literal["group", "global"] = Field(
        "group", description="the same share of every group, or one ranking of all units"
    )
    kinds: list[Literal["neurons", "channels", "heads", "hidden units"]] = Field(
        ["neurons", "channels", "heads", "hidden units"], min_length=1, description="which kinds of units may go"
    )
    width: bool = Field(
        default=False,
        description="also what a normalization takes statistics over, such as the hidden width of a transformer",
    )
    rounds: int = Field(1, ge=1, le=20, description="remove in this many rounds, measuring and retraining in each")
    multiple_of: int = Field(1, ge=1, le=256, description="what stays of a group is a multiple of this")
