"""What of HTTP goes to the audit log: every call that changes something, and every one that a key did not open.

Who (key and tenant, or the address where neither is known), what (the route's name), on which resource, under which
request id, with what outcome. Knows nothing of bodies: no line holds a secret.
"""

from starlette.types import Scope

from app import audit

_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED = frozenset({401, 403})


def note(scope: Scope, status: int, location: str, request_id: str) -> None:
    """Write the line of an answered call, if it is one of those; `location` is the answer's."""
    if not scope["path"].startswith("/v1/") or (scope["method"] in _LOOKING and status not in _REFUSED):
        return
    known, route = scope["state"].get("known"), scope.get("route")
    ids = [value for name, value in scope.get("path_params", {}).items() if name.endswith("_id")]
    audit.write(
        route.name if route else f"{scope['method']} unknown",
        location.rsplit("/", 1)[-1] or (str(ids[0]) if ids else None),
        status,
        tenant=known.tenant if known else None,
        key_id=known.id if known else None,
        address=scope["client"][0] if scope.get("client") else None,
        request_id=request_id,
    )
