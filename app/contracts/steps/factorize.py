"""Options of `factorize`."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import RetrainedSpec

Kind = Literal["matrices", "embeddings"]

_BOUND = "two factors would not keep the values that it promised; put factorize before it"


class Factorize(RetrainedSpec):
    """Replace each matrix by the product of two thin ones."""

    title: ClassVar[str] = "Factorize"
    summary: ClassVar[str] = "Split matrices and 1×1 kernels into two of low rank where that is smaller, then retrain."
    paper: ClassVar[str] = "https://arxiv.org/abs/2312.05821"
    cannot_follow: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("prune_weights", "share_weights", "ternarize", "binarize", "quantize_int4", "quantize_fp16"), _BOUND
    )

    technique: Literal["factorize"] = "factorize"
    energy: float = Field(0.95, gt=0, lt=1, description="share of the squared singular values that each matrix keeps")
    rank: float | None = Field(
        None, gt=0, lt=1, description="rank as a share of the full one, the same for all; replaces energy"
    )
    kinds: list[Kind] = Field(
        ["matrices"], min_length=1, description="what is split: matrices with 1×1 kernels, embedding tables"
    )
    data_aware: bool = Field(
        True, description="where there is data, keep what matters for its activations rather than for all inputs alike"
    )
    min_size: int = Field(1024, ge=4, description="tensors with fewer weights are left alone")
