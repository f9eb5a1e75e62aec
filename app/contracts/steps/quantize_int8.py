"""Options of `quantize_int8`."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from app.contracts.steps.base import RetrainedSpec


class QuantizeInt8(RetrainedSpec):
    """8-bit integer weights and activations in ONNX Runtime's own operators."""

    title: ClassVar[str] = "Quantize to int8"
    summary: ClassVar[str] = "8-bit weights and activations; dynamic needs no data, static and qat do."
    paper: ClassVar[str] = "https://arxiv.org/abs/1712.05877"
    lowers: ClassVar[bool] = True
    cannot_follow: ClassVar[Mapping[str, str]] = {
        "quantize_int4": "it would store those weights in 8 bits again; leave one of the two out",
    }

    technique: Literal["quantize_int8"] = "quantize_int8"
    mode: Literal["dynamic", "static", "qat"] = Field(
        "dynamic", description="activation scales at run time, or calibrated, or either with retraining of the integers"
    )
    ranges: Literal["auto", "dynamic", "static"] = Field(
        "auto", description="qat's activation scales; auto: static for convolutions, else dynamic"
    )
    per_channel: bool = Field(True, description="one scale per output channel instead of one per tensor")
    reduce_range: bool = Field(False, description="7-bit weights: safe from saturation on CPUs without VNNI")
    calibration: Literal["minmax", "entropy", "percentile"] = Field("minmax", description="static mode's range rule")
    calibration_rows: int = Field(256, ge=1, le=100_000, description="training rows used to calibrate")
    exclude: list[str] = Field([], max_length=1000, description="names of nodes that stay in floating point")

    @property
    def data_needed(self) -> bool:
        """Whether activations are calibrated."""
        return self.mode != "dynamic"

    @property
    def may_train(self) -> bool:
        """Whether the mode trains."""
        return self.mode == "qat" and self.epochs != 0

    @model_validator(mode="after")
    def _training_is_for_qat(self) -> Self:
        if self.epochs and self.mode != "qat":
            msg = f"epochs are for mode qat, which trains; mode {self.mode} does not"
            raise ValueError(msg)
        return self
