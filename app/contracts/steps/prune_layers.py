"""Options of `prune_layers`."""

from typing import ClassVar, Literal

from pydantic import Field

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
