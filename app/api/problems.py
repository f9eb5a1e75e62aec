"""Every refusal, the framework's own included, as `application/problem+json` (RFC 9457)."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from app.errors import (
    BadInput,
    MethodNotAllowed,
    ModelpressError,
    NotFound,
    PayloadTooLarge,
    Unauthorized,
    UnsupportedEncoding,
)
from app.problems import problem_of

MEDIA_TYPE = "application/problem+json"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_BY_STATUS: dict[int, type[ModelpressError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    413: PayloadTooLarge,
    415: UnsupportedEncoding,
}


def problem_response(error: ModelpressError, request_id: str) -> Response:
    """Render an error; `instance` is the request id that the logs carry too."""
    problem = problem_of(error).model_copy(update={"instance": request_id})
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(problem.model_dump_json(), error.status, headers, MEDIA_TYPE)


def on_refusal(request: Request, error: Exception) -> Response:
    """Answer an error of our own tree."""
    known = error if isinstance(error, ModelpressError) else ModelpressError()
    return problem_response(known, request.state.request_id)


def on_framework_refusal(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: no such path, no such method, a body that is too large or broken."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    kind = _BY_STATUS.get(status, BadInput if status < 500 else ModelpressError)  # noqa: PLR2004 - server errors
    response = problem_response(kind(), request.state.request_id)
    if isinstance(error, HTTPException):
        response.headers.update(error.headers or {})
    if status == MethodNotAllowed.status:
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """Return the methods of a path. The framework's own header names those of one of its routes alone."""
    routes = request.app.router.routes
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    return [name for name, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def documented(*kinds: type[ModelpressError]) -> dict[int | str, dict[str, object]]:
    """Return OpenAPI `responses` for these problems, grouped by status, beside those that any call may meet."""
    grouped: dict[int | str, list[type[ModelpressError]]] = {}
    for kind in kinds:
        grouped.setdefault(kind.status, []).append(kind)
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": "; ".join(f"`{kind.slug}`: {kind.title}" for kind in found),
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status, found in grouped.items()
    }
