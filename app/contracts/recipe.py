"""A recipe: the steps of a job, in order, and the orders that cannot work."""

from typing import Literal

from pydantic import Field, model_validator

from app.contracts.base import Contract
from app.contracts.steps import Step


class Recipe(Contract):
    """What to do to the model, step by step."""

    version: Literal[1] = 1
    steps: list[Step] = Field(
        min_length=1,
        max_length=32,
        examples=[[{"technique": "prune_layers", "keep": 2}, {"technique": "distill"}]],
    )

    @model_validator(mode="after")
    def _nothing_after_lowering(self) -> "Recipe":
        for position, step in enumerate(self.steps[:-1]):
            if step.lowers:
                later = self.steps[position + 1].technique
                msg = (
                    f"{step.technique} turns weights into integers, so {later} cannot come after it; "
                    f"make {step.technique} the last step"
                )
                raise ValueError(msg)
        return self
