"""Checkpoints of a job: how far it had come, in words that people and both sides of the pipe share."""

from pydantic import Field

from app.contracts.base import Contract, Timestamp
from app.contracts.recipe import ControlKind


class Position(Contract):
    """How far a job had come: in the training of a step, or, without an epoch, at the end of it."""

    step: int = Field(ge=1, description="1 is the first of the recipe")
    steps: int
    technique: str
    control: ControlKind | None = Field(None, description="set when the step was a control's")
    epoch: float | None = Field(None, ge=0, description="of the training that was under way")
    epochs: float | None = Field(None, ge=0)

    @property
    def words(self) -> str:
        """The position for people."""
        whose = f" of the control {self.control.replace('_', ' ')}" if self.control else ""
        step = f"step {self.step} of {self.steps} ({self.technique}){whose}"
        if self.epoch is None or self.epochs is None:
            return f"the end of {step}"
        return f"{step}, epoch {round(self.epoch, 1):g} of {self.epochs:g}"


class Checkpoint(Contract):
    """Where a job goes on after its worker was lost, and where it goes on when it is resumed after its end."""

    attempt: int = Field(description="the attempt that left it")
    size_bytes: int
    position: Position
    at: Timestamp
