"""What every technique's options have in common."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from app.contracts.base import Contract, ModelId

MIXUP = (
    "also learn from mixtures of rows, in shares drawn from Beta(mixup, mixup), against learning rows by heart; "
    "0.2 to 1 is usual, 0 mixes nothing; for floating-point inputs"
)


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
    # Whether training is all that it does.
    trains: ClassVar[bool] = False
    # A lowering step changes the graph to operators that no later step can train through.
    lowers: ClassVar[bool] = False
    # Earlier techniques whose work this one would undo: why, and what would work instead.
    cannot_follow: ClassVar[Mapping[str, str]] = {}
    # The options that each name an uploaded model; their names are the roles of these models.
    names_models: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:
        technique: str  # declared by each subclass as its own literal

    @property
    def models(self) -> dict[str, ModelId]:
        """The uploaded models that the step names, by option."""
        named = {option: getattr(self, option) for option in self.names_models}
        return {option: model for option, model in named.items() if model is not None}

    @property
    def replacement(self) -> str | None:
        """The option whose model takes the place of what earlier steps made, if one does."""
        return None

    @property
    def needs_trained(self) -> bool:
        """Whether the step learns from the model as the last step that trained left it."""
        return False

    def trains_before(self, later: "StepSpec | None") -> bool:  # noqa: ARG002 - those that retrain look at it
        """Whether the step trains, given data, when `later` is the next one."""
        return self.trains

    @property
    def data_needed(self) -> bool:
        """Whether the step cannot be run without a data set, as its options stand."""
        return self.needs_data

    @property
    def may_train(self) -> bool:
        """Whether the step trains if there is data, as its options stand."""
        return self.trains

    @property
    def may_be_taught(self) -> bool:
        """Whether the step learns from a teacher if there is data, as its options stand."""
        return False

    @property
    def mixes(self) -> bool:
        """Whether the step may learn from mixtures of rows."""
        return self.may_train and getattr(self, "mixup", 0.0) > 0

    def untrained(self) -> Self | None:
        """Return the step without its training, None where nothing is left."""
        return None if self.trains else self


class RetrainedSpec(StepSpec):
    """A technique that damages the model and repairs it by retraining under the new constraint."""

    epochs: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="retraining after this step; default: 1, or more where that is few steps, with data and no step "
        "that trains next, else 0",
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="peak learning rate of the retraining; default: found by a short range test"
    )
    batch_size: int = Field(32, ge=1, le=4096, description="rows per training step")
    patience: int = Field(3, ge=1, le=100, description="validations without improvement before training stops")
    mixup: float = Field(0.0, ge=0, le=10, description=MIXUP)

    def trains_before(self, later: StepSpec | None) -> bool:
        """Whether there is retraining: as asked, else unless the next step trains."""
        if self.epochs is not None:
            return self.trains or self.epochs > 0
        return self.trains or later is None or not later.trains

    @property
    def data_needed(self) -> bool:
        """Whether retraining is asked for outright."""
        return self.needs_data or bool(self.epochs)

    @property
    def may_train(self) -> bool:
        """Whether retraining is not ruled out."""
        return self.trains or self.epochs != 0

    @property
    def may_be_taught(self) -> bool:
        """Whether the step retrains, which it does with the upload as teacher."""
        return self.may_train

    def untrained(self) -> Self:
        """Return the step for no epochs."""
        return self.model_copy(update={"epochs": 0.0})
