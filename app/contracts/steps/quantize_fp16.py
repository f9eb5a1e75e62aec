"""Options of `quantize_fp16`."""

from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import StepSpec


class QuantizeFp16(StepSpec):
    """Round weights to half precision, so that the file holds them in 2 bytes; arithmetic, inputs and outputs stay."""

    title: ClassVar[str] = "Quantize to fp16"
    summary: ClassVar[str] = "Weights in half precision: half the file, decoded at load, as fast as before."
    paper: ClassVar[str] = "https://arxiv.org/abs/1710.03740"

    technique: Literal["quantize_fp16"] = "quantize_fp16"
    format: Literal["float16", "bfloat16"] = Field(
        "float16", description="float16 is finer by 8 times; bfloat16 has the range of float32"
    )
    embeddings: bool = Field(True, description="also tables that rows are looked up in")
    min_size: int = Field(512, ge=2, description="tensors with fewer weights are left alone")
