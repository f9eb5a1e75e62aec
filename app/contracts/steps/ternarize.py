"""Options of `ternarize`."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import RetrainedSpec


class Ternarize(RetrainedSpec):
    """Let each weight be minus a, zero or a, with one a per output channel or table row."""

    title: ClassVar[str] = "Ternarize"
    summary: ClassVar[str] = "Three values per channel (-a, 0, a), about 1.6 bits a weight, retrained straight-through."
    paper: ClassVar[str] = "https://arxiv.org/abs/1605.04711"
    cannot_follow: ClassVar[Mapping[str, str]] = {
        "binarize": "its two values per channel are fewer; put ternarize before binarize, or use two_step of binarize",
    }

    technique: Literal["ternarize"] = "ternarize"
    threshold: float = Field(
        0.7, gt=0, lt=1, description="weights up to this share of their channel's mean magnitude become zero"
    )
    scale: Literal["mean", "learned"] = Field(
        "mean", description="a: the mean magnitude of what is not zero, or trained like a weight"
    )
    gradual: bool = Field(False, description="ternarize tensor by tensor while retraining, those that lose least first")
    embeddings: bool = Field(True, description="also tables that rows are looked up in")
    keep_first_last: bool = Field(False, description="leave the first and the last matrix or kernel as they are")
    min_size: int = Field(512, ge=2, description="tensors with fewer weights are left alone")
