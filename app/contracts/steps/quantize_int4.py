"""Options of `quantize_int4`."""

from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import RetrainedSpec


class QuantizeInt4(RetrainedSpec):
    """Let weights be whole numbers of 4 bits times a scale per block; arithmetic stays floating."""

    title: ClassVar[str] = "Quantize to int4"
    summary: ClassVar[str] = "4-bit weights with a scale per block of 32, embeddings included, retrained on request."
    paper: ClassVar[str] = "https://arxiv.org/abs/1909.05840"

    technique: Literal["quantize_int4"] = "quantize_int4"
    block: Literal[16, 32, 64, 128] = Field(
        32, description="weights along the input that share a scale; where it does not divide, the next smaller"
    )
    symmetric: bool = Field(
        False, description="a scale alone, else a zero point per block too: 0.1 bits a weight more, and closer by 1 dB"
    )
    embeddings: bool = Field(True, description="also tables that rows are looked up in")
    keep_first_last: bool = Field(False, description="leave the first and the last matrix or kernel as they are")
    min_size: int = Field(512, ge=2, description="tensors with fewer weights are left alone")
