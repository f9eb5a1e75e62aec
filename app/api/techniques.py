"""`/v1/techniques`: what a recipe may hold."""

from fastapi import APIRouter

from app.api.access import CallerGiven
from app.api.problems import documented
from app.contracts.base import Page
from app.contracts.technique import TechniqueInfo, techniques
from app.errors import NotFound

router = APIRouter(prefix="/techniques", tags=["techniques"])


@router.get("")
def list_techniques(_caller: CallerGiven) -> Page[TechniqueInfo]:
    """List every technique with the JSON Schema of its options."""
    return Page[TechniqueInfo](items=list(techniques()))


@router.get("/{name}", responses=documented(NotFound))
def read_technique(_caller: CallerGiven, name: str) -> TechniqueInfo:
    """Read one technique."""
    for found in techniques():
        if found.name == name:
            return found
    msg = "There is no technique of this name; GET /v1/techniques lists them."
    raise NotFound(msg)
