"""Every technique, found by walking this package: one file per technique, its stem is the wire name.

No try/except on purpose: a broken file stops the process, and so does a stem without options or work.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from app.contracts.steps import SPECS
from workers.compute.graph.model import Model
from workers.compute.techniques.base import Context, Outcome

# The spec is Any because this is where the pipeline dispatches on it.
Technique = Callable[[Model, Any, Context], Outcome]


def _techniques() -> dict[str, Technique]:
    stems = sorted(info.name for info in pkgutil.iter_modules(__path__) if info.name != "base")
    found = {stem: importlib.import_module(f"{__name__}.{stem}").apply for stem in stems}
    if unpaired := set(found) ^ set(SPECS):
        msg = f"techniques without their twin file: {sorted(unpaired)}"
        raise RuntimeError(msg)
    return found


TECHNIQUES: dict[str, Technique] = _techniques()
