"""Options of `binarize`."""

from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import RetrainedSpec


class Binarize(RetrainedSpec):
    """Let each weight be minus a or a, with one a per output channel or table row."""

    title: ClassVar[str] = "Binarize"
    summary: ClassVar[str] = "Two values per channel (-a, a), about one bit a weight, retrained straight-through."
    paper: ClassVar[str] = "https://arxiv.org/abs/1603.05279"

    technique: Literal["binarize"] = "binarize"
    two_step: bool = Field(True, description="train ternary weights for the first half, and go on binary from there")
    embeddings: bool = Field(True, description="also tables that rows are looked up in")
    keep_first_last: bool = Field(False, description="leave the first and the last matrix or kernel as they are")
    min_size: int = Field(512, ge=2, description="tensors with fewer weights are left alone")
