"""HTTP calls with retries: turns answers into errors of ours. Knows no resource of the API."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import httpx
from pydantic import ValidationError

from app.contracts.problem import Problem
from modelpress.errors import ProblemError, ServerUnreachable, TransferError, problem_error

_LONGEST_WAIT_S = 30.0
_TOO_MANY = 429
_OVERLOADED = frozenset({429, 502, 503, 504})
_FOR_ANY_SERVER = ("Range", "Accept-Encoding", "User-Agent")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "PUT"})


@dataclass(frozen=True)
class Call:
    """One request. `body` is sent as JSON, `content` as it is; `repeatable` calls may be sent twice."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object | None = None
    content: bytes | None = None
    repeatable: bool = False
    read_timeout_s: float | None = None

    @property
    def may_repeat(self) -> bool:
        """Whether sending the call twice does no harm."""
        return self.repeatable or self.method in _SAFE_METHODS


@dataclass(frozen=True)
class Retry:
    """How often and how long to try again: `first_wait_s` doubles up to 30 s, `Retry-After` overrules it."""

    attempts: int = 6
    first_wait_s: float = 0.5
    sleep: Callable[[float], None] = time.sleep

    def wait(self, attempt: int, retry_after_s: float | None = None) -> None:
        """Sleep before attempt number `attempt + 1`."""
        backoff = self.first_wait_s * 2.0**attempt
        self.sleep(min(_LONGEST_WAIT_S, backoff if retry_after_s is None else retry_after_s))


class Transport:
    """A connection pool to one server that retries what may be repeated."""

    def __init__(self, base_url: str, api_key: str | None, retry: Retry) -> None:
        """Open no connection yet."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # 60 s: the longest `Prefer: wait` of ours is 30 s; a silent server beyond that is a lost one.
        timeout = httpx.Timeout(60.0, connect=10.0)
        self._http = httpx.Client(base_url=base_url.rstrip("/"), headers=headers, timeout=timeout)
        self._answered = False
        self.base_url = base_url.rstrip("/")
        self.retry = retry

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call) -> httpx.Response:
        """Send, repeat where that does no harm, and return a 2xx answer.

        Raises ProblemError for any other answer, ServerUnreachable when none comes.
        """
        for attempt in range(self.retry.attempts):
            last = attempt == self.retry.attempts - 1
            try:
                response = self._http.send(self._request(call))
            except httpx.TransportError as error:
                if last or not self._worth_repeating(call, error):
                    raise self._unreachable(error) from error
                self.retry.wait(attempt)
                continue
            self._answered = True
            if response.is_success:
                return response
            failure = _failure(response)
            refused_early = failure.problem.status == _TOO_MANY  # before anything was done
            if last or not (failure.problem.retryable and (call.may_repeat or refused_early)):
                raise failure
            self.retry.wait(attempt, _retry_after_s(response))
        raise AssertionError  # the last attempt returns or raises

    @contextmanager
    def stream(self, call: Call) -> Iterator[httpx.Response]:
        """Send once and hand out the answer while its body arrives, from where the server says that it is (307).

        Raises ProblemError, ServerUnreachable, and httpx.TransportError when the body breaks off.
        """
        try:
            response = self._http.send(self._request(call), stream=True)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        try:
            self._answered = True
            if response.status_code == httpx.codes.TEMPORARY_REDIRECT and "Location" in response.headers:
                with self._elsewhere(response) as found:
                    yield found
                return
            if not response.is_success:
                response.read()
                raise _failure(response)
            yield response
        finally:
            response.close()

    @contextmanager
    def _elsewhere(self, response: httpx.Response) -> Iterator[httpx.Response]:
        """Hand out what lies at the address of the blob store that the server named; the API key does not go there."""
        request = response.request
        address = request.url.join(response.headers["Location"])
        if request.url.scheme == "https" and address.scheme != "https":
            raise TransferError("the server names an address without https; nothing is fetched from there")
        kept = {name: request.headers[name] for name in _FOR_ANY_SERVER if name in request.headers}
        with httpx.Client(timeout=self._http.timeout) as plain:
            try:
                found = plain.send(plain.build_request(request.method, address, headers=kept), stream=True)
            except httpx.TransportError as error:
                raise ServerUnreachable(f"no answer from {address.host} ({type(error).__name__})") from error
            try:
                if found.status_code in _OVERLOADED:
                    raise ServerUnreachable(f"{address.host} answered {found.status_code}")
                if not found.is_success:
                    found.read()
                    raise _failure(found)
                yield found
            finally:
                found.close()

    def _request(self, call: Call) -> httpx.Request:
        request = self._http.build_request(
            call.method,
            call.path,
            params=dict(call.params),
            headers=dict(call.headers),
            json=call.body,
            content=call.content,
        )
        if call.read_timeout_s is not None:
            request.extensions["timeout"] = httpx.Timeout(call.read_timeout_s, connect=10.0).as_dict()
        return request

    def _worth_repeating(self, call: Call, error: httpx.TransportError) -> bool:
        """Tell a lost connection from a server that is not there: the latter is reported at once."""
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return self._answered
        return call.may_repeat

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        return ServerUnreachable(f"no answer from {self.base_url} ({type(error).__name__})")


def _failure(response: httpx.Response) -> ProblemError:
    return problem_error(problem_of(response))


def problem_of(response: httpx.Response) -> Problem:
    """Read the problem of an answer; one is made up for an answer of something between us and the server."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        overloaded = response.status_code in _OVERLOADED
        return Problem(
            type="about:blank",
            title=response.reason_phrase or "Error",
            status=response.status_code,
            detail=f"{response.request.method} {response.request.url.path} answered {response.status_code}",
            retryable=overloaded,
            cure="Check the address; the answer did not come from modelpress.",
        )


def _retry_after_s(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None
