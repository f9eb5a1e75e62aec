"""Who may call: API keys become tenants, unknown query parameters are refused, pages have bounds."""

import asyncio
import hmac
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Query
from fastapi.dependencies.models import Dependant
from starlette.datastructures import Headers
from starlette.requests import Request

from app.api.rates import Allowance
from app.contracts.key import SCOPES
from app.errors import BadInput, CrossSiteRefused, QuotaExceeded, ScopeMissing, Unauthorized
from app.networks import is_loopback
from app.resources import Resources
from app.services import keys
from app.services.caller import Caller
from app.settings import Settings
from app.stores.keys import Known
from app.stores.records import Cursor

ID_LIKE = "^[a-z0-9_]{1,40}$"  # what a database may be asked for: no NUL, no megabytes
DEFAULT_TENANT = "default"
ADMINISTRATION = "administration"  # the tag of calls that need the scope `admin`
_LOOKING = frozenset({"GET", "HEAD"})


class KeysNeeded(Exception):
    """The settings would let anybody on the network in."""


def refuse_open_bind(settings: Settings) -> None:
    """Raise KeysNeeded unless there are keys, or only this machine can connect to an embedded gateway."""
    if not settings.lets_anybody_in:
        return
    msg = (
        f"profile {settings.profile!r} on host {settings.host!r} needs API keys: "
        'set MODELPRESS_API_KEYS to a JSON object such as {"<key>": "<tenant>"}, or bind 127.0.0.1'
    )
    raise KeysNeeded(msg)


def refuse_other_sites(headers: Headers, settings: Settings) -> None:
    """Raise CrossSiteRefused where a browser could be used against a gateway that asks for no key.

    A foreign page may send simple requests to this machine, and a foreign name may be made to resolve to it
    (DNS rebinding); with keys neither gets anywhere.
    """
    if settings.api_keys:
        return
    host = headers.get("host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if not is_loopback(name.strip("[]")):
        msg = f"The host `{name[:100]}` is not this machine's, and the gateway asks for no key."
        raise CrossSiteRefused(msg)
    origin = headers.get("origin")
    if headers.get("sec-fetch-site") == "cross-site" or (origin and origin.partition("//")[2] != host):
        raise CrossSiteRefused


async def caller(request: Request) -> Caller:
    """Return who asks; raises Unauthorized, QuotaExceeded, and ScopeMissing when the key is not for such calls."""
    resources: Resources = request.app.state.resources
    known = await _known(request, resources)
    request.state.known = known
    _refuse_too_many(request, known)
    needed = _needed_scope(request)
    if needed not in known.scopes:
        msg = f"This call needs a key with the scope `{needed}`."
        raise ScopeMissing(msg)
    return Caller(known.tenant, resources, known.id, request.state.span.traceparent)


def _refuse_too_many(request: Request, known: Known) -> None:
    allowance: Allowance | None = request.app.state.rates.take(known.tenant)
    request.state.allowance = allowance
    if allowance is not None and not allowance.granted:
        msg = f"More than {allowance.per_s:g} calls a second came with keys of this tenant."
        raise QuotaExceeded(msg, retry_after_s=allowance.wait_s)


async def _known(request: Request, resources: Resources) -> Known:
    if not resources.settings.api_keys:
        refuse_other_sites(request.headers, resources.settings)
        return Known(None, DEFAULT_TENANT, frozenset(SCOPES))
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized
    key = given.strip()
    known = _of_environment(resources.settings, key) or keys.remembered(resources, key)
    known = known or await asyncio.to_thread(keys.look_up, resources, key)
    if known is None:
        raise Unauthorized
    return known


def _of_environment(settings: Settings, given: str) -> Known | None:
    """Return whom a key of the environment stands for; every one is compared, in constant time."""
    matching = [
        tenant
        for key, tenant in settings.api_keys.items()
        if hmac.compare_digest(key.get_secret_value().encode(), given.encode())
    ]
    return Known(f"environment:{matching[0]}", matching[0], frozenset(SCOPES)) if matching else None


def _needed_scope(request: Request) -> str:
    if ADMINISTRATION in request.scope["route"].tags:
        return "admin"
    return "read" if request.method in _LOOKING else "write"


async def refuse_unknown_query(request: Request) -> None:
    """Raise BadInput for a query parameter that the route does not have: a misspelt filter must not be ignored."""
    if not request.scope["query_string"]:
        return
    known = set(_query_names(request.scope["route"].dependant))
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        offered = f"known are {', '.join(sorted(known))}" if known else "there are none here"
        msg = f"Unknown query parameter {', '.join(f'`{name[:50]}`' for name in unknown)}; {offered}."
        raise BadInput(msg)


def _query_names(dependant: Dependant) -> Iterator[str]:
    for parameter in dependant.query_params:
        yield parameter.alias
    for inner in dependant.dependencies:
        yield from _query_names(inner)


async def cursor(
    limit: Annotated[int, Query(ge=1, le=200, description="items per page")] = 50,
    after: Annotated[str | None, Query(pattern=ID_LIKE, description="`next` of the page before")] = None,
) -> Cursor:
    """Return which page is asked for."""
    return Cursor(limit, after)


CallerGiven = Annotated[Caller, Depends(caller)]
CursorGiven = Annotated[Cursor, Depends(cursor)]
GUARDS = [Depends(caller), Depends(refuse_unknown_query)]
