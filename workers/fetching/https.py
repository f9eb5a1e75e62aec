"""A source over HTTPS: only where `workers.webhooks.resolve` lets it, hop by hop, at the very address examined."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urljoin

import certifi
import httpx

from app.errors import SourceRefused, UrlForbidden
from workers.fetching.download import Broken, Opened
from workers.webhooks import pinned

_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_OK, _PARTIAL, _RANGE_REFUSED = 200, 206, 416
_AGAIN = {408, 425, 429}  # beside all of 5xx
_LONGEST_WAIT_S = 60.0
_CONNECT_S = 10.0


@dataclass(frozen=True)
class Address:
    """Where to ask, and how; `named` by the operator, so that it may be private and no redirect is followed."""

    url: str
    idle_s: float
    allow_private: bool = False
    named: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def open(self, offset: int, tag: str | None) -> AsyncIterator[Opened]:
        """Yield the bytes from `offset` on, or from 0 when the source cannot go on or holds another version now."""
        asked = {**self.headers, "accept-encoding": "identity", "user-agent": "modelpress-fetch/1"}
        if offset and tag is not None:
            asked |= {"range": f"bytes={offset}-", "if-range": tag}
        timeout = httpx.Timeout(self.idle_s, connect=min(_CONNECT_S, self.idle_s))
        try:
            async with httpx.AsyncClient(timeout=timeout, trust_env=False, verify=tls()) as client:
                answer = await self._answer(client, asked)
                try:
                    yield _opened(answer)
                finally:
                    await answer.aclose()
        except httpx.TransportError as error:
            raise Broken(f"The source does not answer, or broke off ({type(error).__name__}).") from error

    async def _answer(self, client: httpx.AsyncClient, asked: dict[str, str]) -> httpx.Response:
        url = self.url
        for _hop in range(_MAX_REDIRECTS + 1):
            allowed = self.allow_private or self.named
            request = await asyncio.to_thread(_pinned, url, asked, allow_private=allowed)
            answer = await client.send(request, stream=True, follow_redirects=False)
            if answer.status_code not in _REDIRECTS or "location" not in answer.headers:
                return answer
            await answer.aclose()
            if self.named:
                raise SourceRefused("The server answered with a redirect, which is not followed.")
            url = _joined(url, answer.headers["location"])
        raise SourceRefused(f"The source redirects more than {_MAX_REDIRECTS} times.")


def _pinned(url: str, headers: dict[str, str], *, allow_private: bool) -> httpx.Request:
    try:
        return pinned("GET", url, headers, allow_private=allow_private)
    except httpx.InvalidURL as error:
        raise UrlForbidden("The address cannot be read.") from error
    except OSError as error:
        raise Broken("The source's name leads to no address.") from error


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise UrlForbidden("The address that the source redirects to cannot be read.") from error


@cache
def tls() -> ssl.SSLContext:
    """Return what certificates are checked with: the public authorities, and those that the machine trusts."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


def _opened(answer: httpx.Response) -> Opened:
    refuse_failed(answer)
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise SourceRefused("The source sends its bytes encoded although it was asked for them as they are.")
    length, tag = answer.headers.get("content-length", ""), answer.headers.get("etag")
    # A weak tag does not promise the same bytes, so nothing can be gone on with.
    strong = tag if tag and not tag.startswith("W/") else None
    if answer.status_code == _PARTIAL:
        first, whole = _span(answer.headers.get("content-range", ""))
        return Opened(answer.aiter_raw(), first, whole, strong)
    return Opened(answer.aiter_raw(), 0, int(length) if length.isdecimal() else None, strong)


def refuse_failed(answer: httpx.Response) -> None:
    """Raise Broken for an answer that may be another one later, SourceRefused for any other but success."""
    status = answer.status_code
    if status in {_OK, _PARTIAL}:
        return
    if status >= 500 or status in _AGAIN:  # noqa: PLR2004 - the range that HTTP calls the server's fault
        wait = answer.headers.get("retry-after", "")
        raise Broken(f"The source answers {status}.", min(float(wait), _LONGEST_WAIT_S) if wait.isdecimal() else 0.0)
    if status == _RANGE_REFUSED:
        raise Broken("The source has fewer bytes now than it had.")
    raise SourceRefused(f"The source answers {status}.")


def _span(content_range: str) -> tuple[int, int | None]:
    found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", content_range)
    if found is None:
        raise SourceRefused("The source answers a part of its bytes and does not say which.")
    return int(found[1]), None if found[2] == "*" else int(found[2])
