"""A recipe: the steps of a job, in order, and the orders that cannot work."""

from itertools import zip_longest
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from app.contracts.base import Contract, ModelId
from app.contracts.steps import Step


class Packing(Contract):
    """How the file is written: each tensor in its smallest lossless encoding."""

    max_load_ms: float | None = Field(
        None,
        gt=0,
        description="most that decoding may add to the load, as measured where the job runs; default: no limit",
    )


class Recipe(Contract):
    """What to do to the model, step by step."""

    version: Literal[1] = 1
    pack: Packing | None = Field(None, description="how the file is written; with it a recipe may do without steps")
    steps: list[Step] = Field(
        max_length=32,
        examples=[[{"technique": "prune_layers", "keep": 2}, {"technique": "distill"}]],
    )

    @field_validator("steps")
    @classmethod
    def _something_to_do(cls, steps: list[Step], info: ValidationInfo) -> list[Step]:
        if not steps and info.data.get("pack") is None:
            msg = "a recipe needs a step, or `pack` to write the model as it is in fewer bytes"
            raise ValueError(msg)
        return steps

    @property
    def max_load_ms(self) -> float | None:
        """What decoding may add to the load."""
        return self.pack.max_load_ms if self.pack else None

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

    @model_validator(mode="after")
    def _nothing_undone(self) -> "Recipe":
        for position, step in enumerate(self.steps):
            for earlier in self.steps[:position]:
                if why := step.cannot_follow.get(earlier.technique):
                    msg = f"{step.technique} cannot come after {earlier.technique}: {why}"
                    raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _nothing_thrown_away(self) -> "Recipe":
        for step in self.steps[1:]:
            if step.replacement is not None:
                msg = (
                    f"{step.technique} with a {step.replacement} throws away what earlier steps made; make it the "
                    f"first step, or leave {step.replacement} out"
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _assistants_are_trained(self) -> "Recipe":
        trained = False
        for step, later in zip_longest(self.steps, self.steps[1:]):
            if step.needs_trained and not trained:
                msg = (
                    f"no step before {step.technique} trains, so there is no assistant to learn from; give an earlier "
                    "step epochs, or leave assistant out"
                )
                raise ValueError(msg)
            trained = trained or step.trains_before(later)
        return self

    @property
    def models(self) -> list[ModelId]:
        """The uploaded models that steps name, each once, sorted."""
        return sorted({model for step in self.steps for model in step.models.values()})
