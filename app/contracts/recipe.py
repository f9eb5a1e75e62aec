"""A recipe: the steps of a job, in order, and the orders that cannot work."""

from itertools import zip_longest
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from app.contracts.base import Contract, ModelId
from app.contracts.steps import Step
from app.contracts.steps.base import StepSpec

ControlKind = Literal["without_retraining", "without_teacher"]


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
    controls: list[ControlKind] = Field(
        [],
        description="what to run again from the upload, for comparison: the same steps, seed and epochs without "
        "retraining, or trained on the labels alone; each takes about as long as the steps that it repeats",
    )

    @field_validator("steps")
    @classmethod
    def _something_to_do(cls, steps: list[Step], info: ValidationInfo) -> list[Step]:
        if not steps and info.data.get("pack") is None:
            msg = "a recipe needs a step, or `pack` to write the model as it is in fewer bytes"
            raise ValueError(msg)
        return steps

    @field_validator("controls")
    @classmethod
    def _controls_differ(cls, controls: list[ControlKind], info: ValidationInfo) -> list[ControlKind]:
        if len(set(controls)) < len(controls):
            msg = "each control runs once; leave the second one of a kind out"
            raise ValueError(msg)
        for kind in controls if "steps" in info.data else []:
            _refuse_pointless(kind, info.data["steps"])
        return controls

    def control_steps(self, kind: ControlKind) -> list[StepSpec]:
        """Return the steps that a control takes; without a teacher they are the same, but learn from labels alone."""
        if kind == "without_teacher":
            return list(self.steps)
        return [left for step in self.steps if (left := step.untrained()) is not None]

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


def _refuse_pointless(kind: ControlKind, steps: list[Step]) -> None:
    """Raise ValueError for a control that would be the result itself, or the upload."""
    if kind == "without_teacher" and not any(step.may_be_taught for step in steps):
        msg = (
            "no step learns from a teacher, so without one the result would be the same; leave without_teacher out, or "
            "let a step retrain (epochs above 0) or distil"
        )
        raise ValueError(msg)
    if kind == "without_retraining" and not any(step.may_train for step in steps):
        msg = (
            "no step trains, so without retraining the result would be the same; leave without_retraining out, or let "
            "a step retrain (epochs above 0)"
        )
        raise ValueError(msg)
    if kind == "without_retraining" and any(step.replacement is not None for step in steps):
        msg = (
            "the student that takes the model's place is made by training alone; leave without_retraining out, or "
            "leave the student out"
        )
        raise ValueError(msg)
    if kind == "without_retraining" and all(step.untrained() is None for step in steps):
        msg = (
            "all steps do nothing but train, so without them the original would be left, which the report shows "
            "anyway; leave without_retraining out, or add a step that changes the model"
        )
        raise ValueError(msg)
