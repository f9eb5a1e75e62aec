"""Delivers the outbox: signed CloudEvents by POST, to public addresses only. The one part that talks to strangers.

Knows no jobs: a delivery is an address, a secret and a body.
"""

import ipaddress
import socket
from urllib.parse import urlsplit, urlunsplit

import httpx
import structlog

from app.errors import UrlForbidden
from app.settings import Settings
from app.signatures import signed_headers
from app.stores import webhooks
from app.stores.database import Database

_LIMIT_S = 10.0  # per try, as GitHub and Standard Webhooks have it
_LEASE_S = 60.0
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

log = structlog.get_logger(__name__)


def deliver_due(database: Database, settings: Settings) -> int:
    """Try every delivery that is due once and record how it went; return how many were tried.

    Raises DependencyUnavailable when the database does not answer; a delivery made but not recorded is made again,
    under the same webhook-id.
    """
    with database.transaction() as tx:
        due = webhooks.take_due(tx, _LEASE_S)
    for delivery in due:
        status = _try(delivery, settings)
        with database.transaction() as tx:
            webhooks.record(tx, delivery, status)
        log.info("webhook tried", webhook=delivery.id, status=status, tries=delivery.tries + 1)
    return len(due)


def _try(delivery: webhooks.Delivery, settings: Settings) -> int | None:
    """Return the HTTP status, or None when there was no answer."""
    secret, body = delivery.secret or settings.webhook_secret.get_secret_value(), delivery.body.encode()
    headers = {"content-type": "application/cloudevents+json", "user-agent": "modelpress-webhooks/1"}
    if secret:
        headers |= signed_headers(secret, delivery.id, body)
    try:
        return post(delivery.url, body, headers, allow_private=settings.allow_private_urls)
    except UrlForbidden as error:
        log.warning("webhook refused", webhook=delivery.id, reason=error.detail)
    except (httpx.HTTPError, OSError) as error:
        log.warning("webhook failed", webhook=delivery.id, reason=type(error).__name__)
    return None


def post(url: str, body: bytes, headers: dict[str, str], *, allow_private: bool) -> int:
    """POST to an address that was resolved once and examined; redirects are not followed, the answer is not read.

    Raises UrlForbidden for an address that may not be contacted, httpx.HTTPError and OSError when there is no answer.
    """
    parts = urlsplit(url)
    target = resolve(url, allow_private=allow_private)
    host = f"[{target}]" if ":" in target else target
    port = parts.port or _PORTS[parts.scheme]
    pinned = urlunsplit((parts.scheme, f"{host}:{port}", parts.path or "/", parts.query, ""))
    headers = {**headers, "host": parts.netloc.rpartition("@")[2]}
    extensions = {"sni_hostname": parts.hostname or ""}
    with (
        httpx.Client(timeout=_LIMIT_S, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", pinned, content=body, headers=headers, extensions=extensions) as answer,
    ):
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
    found = socket.getaddrinfo(parts.hostname, port or _PORTS[parts.scheme], type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_private and not all(is_public(address) for address in addresses):
        raise UrlForbidden("The host has an address that is not public.")
    return addresses[0]


def is_public(address: str) -> bool:
    """Return whether an IP address is globally reachable, looking through IPv4 inside IPv6."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast
