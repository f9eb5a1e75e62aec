"""The OpenAPI description: FastAPI's, with our problem documents in place of its own errors, and the key."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from app.api.problems import MEDIA_TYPE
from app.contracts.dataset import DatasetCreate
from app.contracts.model import ModelCreate
from app.contracts.problem import Problem

_REFERENCE = "#/components/schemas/{model}"
_FRAMEWORK_ERRORS = ("HTTPValidationError", "ValidationError")
_OPEN_PATHS = ("/healthz", "/readyz", "/metrics", "/v1/hooks/")
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}}


def described(app: FastAPI) -> dict[str, Any]:
    """Return the description, made at the first call and kept with the app."""
    if app.openapi_schema is None:
        app.openapi_schema = _describe(app)
    return app.openapi_schema


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation of a description."""
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _describe(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema["components"]["schemas"]
    for name in _FRAMEWORK_ERRORS:
        components.pop(name, None)
    bodies = [(kind, "validation") for kind in (Problem, ModelCreate, DatasetCreate)]
    _, definitions = models_json_schema(bodies, ref_template=_REFERENCE)  # type: ignore[arg-type] # literal modes
    components.update(definitions["$defs"])
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, _method, operation in operations(schema):
        _settle(path, operation)
    return schema


def _settle(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        responses["422"] = {"description": "`validation-error`: The request is not valid", "content": _PROBLEM}
    responses["default"] = {"description": "any other problem", "content": _PROBLEM}
    if not path.startswith(_OPEN_PATHS):
        operation["security"] = [{"key": []}]
