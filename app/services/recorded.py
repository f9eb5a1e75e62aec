"""Which models a recorded job names. Reads documents, which may be older than the contracts."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.contracts.steps import SPECS


def named_models(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the option and the id of each model that the steps of a recorded recipe name."""
    for step in recipe.get("steps", []):
        spec = SPECS.get(step["technique"])
        for option in spec.names_models if spec else ():
            if step.get(option) is not None:
                yield option, step[option]
