"""Options of `retrain`."""

from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import MIXUP, StepSpec


class Retrain(StepSpec):
    """Train on the labels, under every constraint that earlier steps left."""

    title: ClassVar[str] = "Retrain"
    summary: ClassVar[str] = "Train on the labels under all constraints of the earlier steps."
    paper: ClassVar[str] = "https://arxiv.org/abs/1711.05101"
    needs_data: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    technique: Literal["retrain"] = "retrain"
    epochs: float | None = Field(
        None, gt=0, le=1000, description="passes over the training data; default: 2, or more where those are few steps"
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="peak learning rate; default: found by a short range test"
    )
    batch_size: int = Field(32, ge=1, le=4096, description="rows per training step")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decoupled weight decay")
    patience: int = Field(3, ge=1, le=100, description="validations without improvement before training stops")
    mixup: float = Field(0.0, ge=0, le=10, description=MIXUP)
    max_minutes: float | None = Field(None, gt=0, le=10_080, description="stop training after this long")
