"""Which addresses the service may be told to contact. Resolves no name: that is checked again when connecting."""

from ipaddress import ip_address

from pydantic import HttpUrl

from app.errors import UrlForbidden
from app.settings import Settings


def refuse_forbidden(url: HttpUrl | None, settings: Settings, pointer: str) -> None:
    """Raise UrlForbidden for plain http, credentials, and hosts that are plainly not public."""
    if url is None or settings.allow_private_urls:
        return
    if url.scheme != "https":
        raise _forbidden("Only https addresses are contacted.", pointer)
    if url.username or url.password:
        raise _forbidden("The address must not hold credentials.", pointer)
    if not _may_be_public(url.host or ""):
        raise _forbidden("The host is not a public one.", pointer)


def _forbidden(said: str, pointer: str) -> UrlForbidden:
    return UrlForbidden(said, errors=[(pointer, said)])


def _may_be_public(host: str) -> bool:
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return "." in host and not host.lower().endswith((".localhost", ".local", ".internal"))
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_global
