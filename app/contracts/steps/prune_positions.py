"""Options of `prune_positions`."""

from typing import ClassVar, Literal

from app.contracts.steps.base import StepSpec


class PrunePositions(StepSpec):
    """Compute no position of a sequence or picture that no answer reads."""

    title: ClassVar[str] = "Prune positions"
    summary: ClassVar[str] = (
        "Where the answer reads one token, compute the last layer's queries for that token alone: faster, same answers."
    )
    paper: ClassVar[str] = "https://arxiv.org/abs/2001.08950"

    technique: Literal["prune_positions"] = "prune_positions"
