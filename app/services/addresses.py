"""Which addresses the service may be told to contact. Resolves no name: that is checked again when connecting."""

from pydantic import HttpUrl

from app.errors import UrlForbidden
from app.networks import is_public
from app.settings import Settings

_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")


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
        return is_public(host.strip("[]"))
    except ValueError:
        name = host.rstrip(".").lower()
        return "." in name and not name.endswith(_PRIVATE_SUFFIXES)
