"""Why a guard was not met, and what would have met it."""

from pydantic import Field

from app.contracts.base import Contract


class StepDrop(Contract):
    """The guard's metric on validation rows before and after one step."""

    index: int
    technique: str
    before: float
    after: float


class ClassDrop(Contract):
    """The recall of one class on validation rows, before the first step and after the last."""

    name: str
    before: float
    after: float
    samples: int


class TurnedRow(Contract):
    """A validation row that the original decided rightly and the result does not."""

    row: int = Field(description="its place in the data set, from 0")
    label: str | None = Field(description="null for task match, where the original's answer is what counts")
    before: str
    after: str


class RestoredLayer(Contract):
    """The result with one tensor put back as it was in the upload."""

    tensor: str
    operator: str
    relative_error: float = Field(description="how far the result's tensor is from the upload's, in norms of that")
    score: float = Field(description="the guard's metric")
    gain: float = Field(description="over the result as it is, on the same rows")
    dense_bytes: int = Field(description="what the tensor takes when it is put back")
    packed_bytes: int = Field(description="what it takes in the result")
    meets: bool = Field(description="whether this alone would meet the guard on these rows")


class Repair(Contract):
    """One way to meet the guard, or to come closer. Figures are null where it has not been tried."""

    advice: str
    tensors: list[str] = []
    score: float | None = None
    extra_bytes: int | None = None
    meets: bool | None = None


class GuardCauses(Contract):
    """What the drop came from. `layers` were tried on `rows` validation rows, the ones that changed most first."""

    metric: str
    before: float
    after: float
    max_drop: float
    steps: list[StepDrop] = []
    classes: list[ClassDrop] = Field([], description="those that lost most recall")
    samples: list[TurnedRow] = []
    rows: int = 0
    layers: list[RestoredLayer] = []
    repairs: list[Repair] = Field([], description="the cheapest that is known to work first")
