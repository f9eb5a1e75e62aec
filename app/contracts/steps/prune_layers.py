"""Options of `prune_layers`."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from app.contracts.steps.base import RetrainedSpec


class PruneLayers(RetrainedSpec):
    """Remove whole residual spans whose input and output agree in shape."""

    title: ClassVar[str] = "Prune layers"
    summary: ClassVar[str] = "Remove whole repeated layers, least harmful first, then retrain."
    paper: ClassVar[str] = "https://arxiv.org/abs/2004.03844"

    technique: Literal["prune_layers"] = "prune_layers"
    keep: int | None = Field(None, ge=1, le=1000, description="layers to keep; default: half of them")
    order: Literal["damage", "spread", "first", "last"] = Field(
        "damage",
        description="which layers stay: by measured damage, evenly spread, the first, or the last ones",
    )
    remove: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, min_length=1, max_length=1000, description="layers to remove, the first is 1; in place of keep and order"
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.remove is not None and self.keep is not None:
            msg = "remove names the layers themselves; leave out keep"
            raise ValueError(msg)
        return self
