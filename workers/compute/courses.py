"""The runs through a recipe, its own and its controls', and the stages that they make. Knows no technique by name."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.contracts.recipe import ControlKind, Recipe
from app.contracts.steps.base import StepSpec
from workers.compute.stages import Stage

# Weights of the stages; training takes most of a job's time.
_SET_UP, _FINISH, _TRAINING, _PLAIN = 2.0, 4.0, 20.0, 4.0


@dataclass(frozen=True)
class Course:
    """Steps to take from the upload on: the recipe's own, or those of a control."""

    steps: tuple[StepSpec, ...]
    control: ControlKind | None = None

    @property
    def taught(self) -> bool:
        """Whether training may follow a teacher."""
        return self.control != "without_teacher"

    @property
    def name(self) -> str:
        """The name that no other course of the job has."""
        return self.control or "recipe"

    @property
    def title(self) -> str:
        """What people read before a step's name: nothing for the recipe's own steps."""
        return f"control {self.control.replace('_', ' ')} " if self.control else ""

    def folder(self, name: str) -> str:
        """Return the name of a folder in the scratch that no other course uses."""
        return f"{self.name}-{name}"

    def pointer(self, index: int) -> str:
        """Return where the request asks for a step."""
        return f"/recipe/steps/{index}" if self.control is None else "/recipe/controls"

    def next_trains(self, index: int) -> bool:
        """Whether the step after `index` does nothing but train."""
        return any(step.trains for step in self.steps[index + 1 : index + 2])

    def stages(self) -> Iterator[Stage]:
        """Yield one stage for each step."""
        for number, step in enumerate(self.steps, 1):
            name = f"{self.title}{number}/{len(self.steps)} {step.technique}"
            yield Stage(name, _TRAINING if step.may_train else _PLAIN)


def main_course(recipe: Recipe) -> Course:
    """Return the recipe's own steps."""
    return Course(tuple(recipe.steps))


def control_courses(recipe: Recipe) -> dict[ControlKind, Course]:
    """Return the controls' steps, in the order asked for."""
    return {kind: Course(tuple(recipe.control_steps(kind)), kind) for kind in recipe.controls}


def stages_of(recipe: Recipe) -> list[Stage]:
    """Return the stages of a job."""
    named = [*main_course(recipe).stages()] or [Stage("packing", _PLAIN)]
    for course in control_courses(recipe).values():
        named += course.stages()
    return [Stage("measuring the original", _SET_UP), *named, Stage("measuring the result", _FINISH)]
