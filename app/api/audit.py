"""The audit log: a line `audit` for every call that changes something, and for every one that a key did not open.

Who (key and tenant, or the address where neither is known), what (the route's name), on which resource, under which
request id, with what outcome. Knows nothing of bodies: no line holds a secret.
"""

import structlog
from starlette.types import Scope

_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED = frozenset({401, 403})
_FIRST_REFUSAL, _FIRST_FAULT = 400, 500
_log = structlog.get_logger("audit")


def note(scope: Scope, status: int, location: str, request_id: str) -> None:
    """Write the line of an answered call, if it is one of those; `location` is the answer's."""
    if not scope["path"].startswith("/v1/") or (scope["method"] in _LOOKING and status not in _REFUSED):
        return
    known, route = scope["state"].get("known"), scope.get("route")
    ids = [value for name, value in scope.get("path_params", {}).items() if name.endswith("_id")]
    _log.info(
        "audit",
        action=route.name if route else f"{scope['method']} unknown",
        target=location.rsplit("/", 1)[-1] or (str(ids[0]) if ids else None),
        outcome=_outcome(status),
        status=status,
        tenant=known.tenant if known else None,
        key_id=known.id if known else None,
        address=scope["client"][0] if scope.get("client") else None,
        request_id=request_id,
    )


def _outcome(status: int) -> str:
    if status >= _FIRST_FAULT or not status:
        return "failed"
    return "refused" if status >= _FIRST_REFUSAL else "done"
