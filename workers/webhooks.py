"""Delivers the outbox: signed CloudEvents by POST, to public addresses only. The one part that talks to strangers.

Knows no jobs: a delivery is an address, a secret and a body.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import httpx
import structlog

from app.errors import UrlForbidden
from app.networks import is_public
from app.resources import Resources
from app.settings import Settings
from app.signatures import signed_headers
from app.stores import webhooks
from app.traces import Opening, Span, logged

LIMIT_S = 10.0  # per try in all, as GitHub and Standard Webhooks have it
_LEASE_S = 60.0
_REFUSED = 400
_PORTS = {"http": 80, "https": 443}
_SIDE_BY_SIDE = 8  # so that what one take leases is tried within the lease, however slow each receiver

log = structlog.get_logger(__name__)


def deliver_due(resources: Resources) -> int:
    """Try every delivery that is due once and record how it went; return how many were tried.

    Raises DependencyUnavailable when the database does not answer; a delivery made but not recorded is made again,
    under the same webhook-id.
    """
    with resources.database.transaction() as tx:
        due = webhooks.take_due(tx, _LEASE_S)
    with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="webhook") as threads:
        list(threads.map(partial(_deliver, resources), due))
    return len(due)


def _deliver(resources: Resources, delivery: webhooks.Delivery) -> None:
    told: dict[str, str | int] = {"http.request.method": "POST", "modelpress.webhook.id": delivery.id}
    told |= {"http.request.resend_count": delivery.tries} if delivery.tries else {}
    with (
        structlog.contextvars.bound_contextvars(**logged(delivery.trace)),
        resources.traces.begin(Opening("POST", delivery.trace, "client", told)) as span,
    ):
        status = _try(delivery, resources.settings, span)
        with resources.database.transaction() as tx:
            webhooks.record(tx, delivery, status)
        log.info("webhook tried", webhook=delivery.id, status=status, tries=delivery.tries + 1)


def _try(delivery: webhooks.Delivery, settings: Settings, span: Span) -> int | None:
    """Return the HTTP status, or None when there was no answer."""
    status, fault = _posted(delivery, settings, span)
    # Of the address the host alone: the rest may hold a secret.
    host = urlsplit(delivery.url).hostname
    span.note({"server.address": host} if host else {})
    if status is not None:
        span.note({"http.response.status_code": status})
    if status is None or status >= _REFUSED:
        span.fail(fault or str(status))
    return status


def _posted(delivery: webhooks.Delivery, settings: Settings, span: Span) -> tuple[int | None, str]:
    """Return the HTTP status, or None and what went wrong."""
    secret, body = delivery.secret or settings.webhook_secret.get_secret_value(), delivery.body.encode()
    headers = {"content-type": "application/cloudevents+json", "user-agent": "modelpress-webhooks/1"}
    if span.traceparent is not None:
        headers["traceparent"] = span.traceparent
    if secret:
        headers |= signed_headers(secret, delivery.id, body)
    try:
        return post(delivery.url, body, headers, allow_private=settings.allow_private_urls), ""
    except UrlForbidden as error:
        log.warning("webhook refused", webhook=delivery.id, reason=error.detail)
        return None, error.slug
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        log.warning("webhook failed", webhook=delivery.id, reason=type(error).__name__)
        return None, type(error).__name__


def post(url: str, body: bytes, headers: dict[str, str], *, allow_private: bool) -> int:
    """POST to an address that was resolved once and examined; redirects are not followed, the answer is not read.

    Raises UrlForbidden for an address that may not be contacted, httpx.HTTPError and OSError when there is no answer
    within LIMIT_S, also when it comes byte by byte.
    """
    return asyncio.run(_status(pinned("POST", url, headers, body, allow_private=allow_private)))


def pinned(
    method: str, url: str, headers: dict[str, str], body: bytes | None = None, *, allow_private: bool
) -> httpx.Request:
    """Return a request to the one address that was examined, so that the name cannot lead elsewhere a moment later.

    Raises UrlForbidden for an address that may not be contacted, OSError when the name has none.
    """
    parts = urlsplit(url)
    target = resolve(url, allow_private=allow_private)
    host = f"[{target}]" if ":" in target else target
    port = parts.port or _PORTS[parts.scheme]
    address = urlunsplit((parts.scheme, f"{host}:{port}", parts.path or "/", parts.query, ""))
    headers = {**headers, "host": parts.netloc.rpartition("@")[2]}
    return httpx.Request(
        method, address, content=body, headers=headers, extensions={"sni_hostname": parts.hostname or ""}
    )


async def _status(request: httpx.Request) -> int:
    async with asyncio.timeout(LIMIT_S), httpx.AsyncClient(timeout=LIMIT_S, trust_env=False) as client:
        answer = await client.send(request, stream=True, follow_redirects=False)
        await answer.aclose()
        return answer.status_code


def resolve(url: str, *, allow_private: bool) -> str:
    """Return the one IP address to connect to for `url`.

    Raises UrlForbidden when the scheme, the port, the credentials in it or any of its addresses is not allowed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UrlForbidden("The address cannot be read.") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise UrlForbidden("Only https addresses without credentials may be contacted.")
    if not allow_private and (parts.scheme != "https" or port not in {None, 443, 8443}):
        raise UrlForbidden("Only https on port 443 or 8443 may be contacted.")
    try:
        found = socket.getaddrinfo(parts.hostname, port or _PORTS[parts.scheme], type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise UrlForbidden("The host is not a name.") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_private and not all(is_public(address) for address in addresses):
        raise UrlForbidden("The host has an address that is not public.")
    return addresses[0]
