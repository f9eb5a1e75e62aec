"""What every technique's options have in common."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from app.contracts.base import Contract


class StepSpec(Contract):
    """Options of one technique. Every option has a default, so the bare name is a valid step.

    Subclasses add `technique: Literal["<stem>"] = "<stem>"` and set the class facts below; the file's stem is the
    wire name, and `workers/compute/techniques/<stem>.py` does the work.
    """

    title: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    needs_data: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    # A lowering step changes the graph to operators that no later step can train through.
    lowers: ClassVar[bool] = False
    # Earlier techniques whose work this one would undo: why, and what would work instead.
    cannot_follow: ClassVar[Mapping[str, str]] = {}

    if TYPE_CHECKING:
        technique: str  # declared by each subclass as its own literal

    @property
    def data_needed(self) -> bool:
        """Whether the step cannot be run without a data set, as its options stand."""
        return self.needs_data

    @property
    def may_train(self) -> bool:
        """Whether the step trains if there is data, as its options stand."""
        return self.trains


class RetrainedSpec(StepSpec):
    """A technique that damages the model and repairs it by retraining under the new constraint."""

    epochs: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="retraining after this step; default: 1 with data and no training step next, else 0",
    )
    learning_rate: float = Field(5e-4, gt=0, le=1, description="peak learning rate of the retraining")
    batch_size: int = Field(32, ge=1, le=4096, description="rows per training step")
    patience: int = Field(3, ge=1, le=100, description="validations without improvement before training stops")

    @property
    def data_needed(self) -> bool:
        """Whether retraining is asked for outright."""
        return self.needs_data or bool(self.epochs)

    @property
    def may_train(self) -> bool:
        """Whether retraining is not ruled out."""
        return self.trains or self.epochs != 0
