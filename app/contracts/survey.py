"""What a look at a model and its data tells a search for a goal, before anything is compressed."""

from pydantic import Field

from app.contracts.base import Contract, Sha256
from app.contracts.report import LayerDamage, Quality


class Survey(Contract):
    """What recipes can be made of. A count of 0 rules the techniques for it out."""

    rows: int = Field(ge=0, description="rows to train on; 0 without a data set")
    labelled: bool = Field(description="whether rows have labels to learn from")
    floating_inputs: bool = Field(description="whether rows can be mixed")
    quality: Quality | None = Field(description="of the original, on validation rows")
    parameters: int
    macs: int | None = Field(description="multiply-accumulates for one row; null when a shape is unknown")
    file_bytes: int
    resident_bytes: int | None
    p50_ms: float = Field(gt=0, description="median call of the original at the goal's batch size")
    low_faster: float | None = Field(
        None, gt=0, description="how many times as fast it is in the goal's number format; null where it has none"
    )
    narrow_faster: float | None = Field(
        None, gt=0, description="how many times as fast it is as narrow as the search goes; null where it was not tried"
    )
    layers: int = Field(ge=0, description="residual spans and repeats that can be left out")
    removal: list[int] = Field([], description="layers from the least harmful on, all but one; the first is 1")
    tables: int = Field(ge=0, description="embeddings")
    neurons: int = Field(ge=0, description="groups of neurons and hidden units that can be made narrower")
    heads: int = Field(ge=0, description="groups of attention heads that can be made fewer")
    channels: int = Field(ge=0, description="groups of channels that can be made fewer")
    batch_norms: int = Field(ge=0, description="normalizations that fold into the weights before them")
    sensitivity: list[LayerDamage] = []
    logits: Sha256 | None = Field(None, description="blob of what the original answers to all rows")
