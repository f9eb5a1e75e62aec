"""Options of `distill`."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from app.contracts.base import ModelId
from app.contracts.steps.base import MIXUP, StepSpec


class Distill(StepSpec):
    """Train the current graph, or an uploaded student, to answer as the teacher does."""

    title: ClassVar[str] = "Distil"
    summary: ClassVar[str] = "Train the current model to answer as its teacher (by default the upload itself)."
    paper: ClassVar[str] = "https://arxiv.org/abs/1503.02531"
    needs_data: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    names_models: ClassVar[tuple[str, ...]] = ("teacher", "student")

    technique: Literal["distill"] = "distill"
    teacher: ModelId | None = Field(None, description="another model as teacher; default: the upload itself")
    assistant: bool = Field(
        False, description="learn from the model as the last step that trained left it, instead of from the upload"
    )
    student: ModelId | None = Field(
        None, description="another model to train and go on with in the upload's place; for the first step alone"
    )
    temperature: float = Field(2.0, gt=0, le=100, description="T: softens both answers; the loss is scaled by T²")
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the labels' cross-entropy; 0 needs no labels")
    hidden: float = Field(0.0, ge=0, le=1000, description="weight of the error of what passes between layers")
    attention: float = Field(0.0, ge=0, le=1000, description="weight of the divergence of attention inside layers")
    epochs: float | None = Field(
        None, gt=0, le=1000, description="passes over the training data; default: 2, or more where those are few steps"
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="peak learning rate; default: found by a short range test"
    )
    batch_size: int = Field(32, ge=1, le=4096, description="rows per training step")
    patience: int = Field(3, ge=1, le=100, description="validations without improvement before training stops")
    mixup: float = Field(0.0, ge=0, le=10, description=MIXUP)
    max_minutes: float | None = Field(None, gt=0, le=10_080, description="stop training after this long")

    @property
    def may_be_taught(self) -> bool:
        """Whether anything of the loss is the teacher's."""
        return self.alpha < 1 or self.hidden > 0 or self.attention > 0

    @property
    def replacement(self) -> str | None:
        """The student, if there is one."""
        return None if self.student is None else "student"

    @property
    def needs_trained(self) -> bool:
        """Whether the teacher is what an earlier step trained."""
        return self.assistant

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if self.assistant and self.teacher is not None:
            msg = "teacher and assistant both say whom to learn from; leave one of them out"
            raise ValueError(msg)
        return self
