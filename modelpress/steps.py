"""Steps as people write them, `prune_layers:keep=2,epochs=1`, recipes and goals. Knows contracts and no server."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence

from pydantic import TypeAdapter, ValidationError

from app.contracts.goal import Goal
from app.contracts.recipe import Recipe
from app.contracts.steps import SPECS, Step
from app.contracts.steps.base import StepSpec
from modelpress.errors import InvalidInput

StepLike = str | Mapping[str, object] | StepSpec
_STEP: TypeAdapter[StepSpec] = TypeAdapter(Step)


def parse_step(text: str) -> StepSpec:
    """Read `technique[:option=value[,option=value]...]`; a value is JSON or plain text.

    Raises InvalidInput; an unknown name comes with the nearest valid one.
    """
    name, _, tail = text.strip().partition(":")
    if name not in SPECS:
        msg = f"unknown technique {name!r}{_nearest(name, SPECS)}"
        raise InvalidInput(msg)
    return _validated({"technique": name, **_options(name, tail)})


def recipe_of(steps: Recipe | Mapping[str, object] | Sequence[StepLike]) -> Recipe:
    """Return a valid recipe, from its steps or as the API takes it. Raises InvalidInput."""
    if isinstance(steps, Recipe):
        return steps
    try:
        if isinstance(steps, Mapping):
            return Recipe.model_validate(steps)
        return Recipe(steps=[parse_step(step) if isinstance(step, str) else _validated(step) for step in steps])
    except ValidationError as error:
        raise InvalidInput(_sentences(error)) from error


def goal_of(goal: Goal | Mapping[str, object]) -> Goal:
    """Return a valid goal, from its fields. Raises InvalidInput."""
    if isinstance(goal, Goal):
        return goal
    try:
        return Goal.model_validate(goal)
    except ValidationError as error:
        raise InvalidInput(_sentences(error)) from error


def amended(recipe: Recipe, **options: object) -> Recipe:
    """Return the recipe with some of its own options set, such as `controls`. Raises InvalidInput."""
    return recipe_of({**recipe.model_dump(), **options})


def recipe_of_json(text: str) -> Recipe:
    """Read a recipe file: a recipe, or a bare list of steps. Raises InvalidInput."""
    try:
        found = json.loads(text)
        return Recipe.model_validate({"steps": found} if isinstance(found, list) else found)
    except json.JSONDecodeError as error:
        msg = f"the recipe is not JSON: {error}"
        raise InvalidInput(msg) from error
    except ValidationError as error:
        raise InvalidInput(_sentences(error)) from error


def goal_of_json(text: str) -> Goal:
    """Read a goal's file. Raises InvalidInput."""
    try:
        return goal_of(json.loads(text))
    except json.JSONDecodeError as error:
        msg = f"the goal is not JSON: {error}"
        raise InvalidInput(msg) from error


def _options(technique: str, tail: str) -> dict[str, object]:
    known = [name for name in SPECS[technique].model_fields if name != "technique"]
    found: dict[str, object] = {}
    for item in _split(tail):
        name, equals, value = item.partition("=")
        if name not in known:
            msg = f"{technique} has no option {name!r}{_nearest(name, known)}; it has {', '.join(known)}"
            raise InvalidInput(msg)
        if not equals:
            msg = f"{technique}: write {name}=<value>"
            raise InvalidInput(msg)
        found[name] = _value(value)
    return found


def _split(tail: str) -> list[str]:
    """Split at commas outside of brackets and quotes, so that a value may be a JSON list."""
    items, depth, quoted = [""], 0, False
    for sign in tail:
        quoted ^= sign == '"'
        depth += (sign in "[{") - (sign in "]}")
        if sign == "," and not depth and not quoted:
            items.append("")
        else:
            items[-1] += sign
    return [item.strip() for item in items if item.strip()]


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _validated(step: Mapping[str, object] | StepSpec) -> StepSpec:
    if isinstance(step, StepSpec):
        return step
    try:
        return _STEP.validate_python(dict(step))
    except ValidationError as error:
        raise InvalidInput(_sentences(error)) from error


def _sentences(error: ValidationError) -> str:
    """One line per fault: where it is and what is wrong."""
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg']}" for fault in error.errors())


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
