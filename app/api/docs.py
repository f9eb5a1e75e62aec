"""`/docs`: the OpenAPI description as one page, without scripts and without anything from elsewhere."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.api.openapi import operations

router = APIRouter(include_in_schema=False)
_TEMPLATES = Path(__file__).parent.parent / "web" / "templates"


@router.get("/docs")
def read_docs(request: Request) -> Response:
    """Show every call with its parameters, bodies and answers."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True)
    environment.filters["shape"] = _shape
    schema = request.app.openapi()
    calls = [{"path": path, "method": method.upper(), **operation} for path, method, operation in operations(schema)]
    page = environment.get_template("docs.html").render(
        page="docs", title=schema["info"]["title"], calls=calls, kinds=schema["components"]["schemas"]
    )
    return HTMLResponse(page)


def _shape(schema: dict[str, Any]) -> str:
    """Return a JSON Schema in a few words: `string`, `array of Job`, `object`."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " | ".join(_shape(option) for option in schema[union])
    if schema.get("type") == "array":
        return f"array of {_shape(schema.get('items', {}))}"
    return str(schema.get("type", "any"))
