"""How a technique describes itself to forms, documentation and clients."""

from functools import cache
from typing import Any

from app.contracts.base import Contract
from app.contracts.steps import SPECS


class TechniqueInfo(Contract):
    """One technique: JSON Schema of its options with defaults, and what it needs."""

    name: str
    title: str
    summary: str
    paper: str
    needs_data: bool
    needs_labels: bool
    trains: bool
    lowers: bool
    options: dict[str, Any]


@cache
def techniques() -> tuple[TechniqueInfo, ...]:
    """Describe every technique found, in alphabetical order."""
    return tuple(
        TechniqueInfo(
            name=name,
            title=spec.title,
            summary=spec.summary,
            paper=spec.paper,
            needs_data=spec.needs_data,
            needs_labels=spec.needs_labels,
            trains=spec.trains,
            lowers=spec.lowers,
            options=spec.model_json_schema(),
        )
        for name, spec in sorted(SPECS.items())
    )
