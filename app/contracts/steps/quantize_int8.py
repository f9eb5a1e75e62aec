"""Options of `quantize_int8`."""

from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import StepSpec


class QuantizeInt8(StepSpec):
    """8-bit integer weights and activations in ONNX Runtime's own operators."""

    title: ClassVar[str] = "Quantize to int8"
    summary: ClassVar[str] = "8-bit weights and activations; dynamic needs no data, static calibrates on it."
    paper: ClassVar[str] = "https://arxiv.org/abs/1712.05877"
    lowers: ClassVar[bool] = True

    technique: Literal["quantize_int8"] = "quantize_int8"
    mode: Literal["dynamic", "static"] = Field("dynamic", description="activation scales at run time, or calibrated")
    per_channel: bool = Field(True, description="one scale per output channel instead of one per tensor")
    reduce_range: bool = Field(False, description="7-bit weights: safe from saturation on CPUs without VNNI")
    calibration: Literal["minmax", "entropy", "percentile"] = Field("minmax", description="static mode's range rule")
    calibration_rows: int = Field(256, ge=1, le=100_000, description="training rows used to calibrate")
    exclude: list[str] = Field([], max_length=1000, description="names of nodes that stay in floating point")

    @property
    def data_needed(self) -> bool:
        """Whether activations are calibrated."""
        return self.mode == "static"
