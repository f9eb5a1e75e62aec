"""Every technique's options, found by walking this package: adding one is adding a file.

No try/except on purpose: a broken file stops the process.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from app.contracts.steps.base import StepSpec


def _specs() -> dict[str, type[StepSpec]]:
    found: dict[str, type[StepSpec]] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__) if info.name != "base"):
        members = vars(importlib.import_module(f"{__name__}.{module}")).values()
        spec = next(m for m in members if isinstance(m, type) and "technique" in getattr(m, "model_fields", {}))
        found[module] = spec
    return found


SPECS: dict[str, type[StepSpec]] = _specs()

if TYPE_CHECKING:
    Step = StepSpec
else:
    # Pydantic builds the discriminated union from the classes found, so 422 messages point into the right technique.
    Step = Annotated[Union[tuple(SPECS.values())], Field(discriminator="technique")]  # noqa: UP007 - built at run time
