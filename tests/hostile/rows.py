"""One row of the hostile corpus: what is sent, and the status and problem that must come back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import ModelpressError
from tests.hostile.service import Answer, Service

Send = Callable[[Service], Answer]
Build = Callable[[], bytes]


@dataclass(frozen=True)
class Row:
    """`problems` are the names that fit; none: it is accepted, or succeeds. `timed`: one upload, one verdict."""

    name: str
    send: Send
    status: int
    problems: tuple[str, ...] = ()
    timed: bool = False

    def fault(self, answer: Answer) -> str:
        """Return what is wrong with the answer, or nothing."""
        if answer.status == self.status and (answer.problem in self.problems or not (self.problems or answer.problem)):
            return ""
        wanted = " or ".join(self.problems) or "no problem"
        return f"{self.name}: {answer.status} {answer.problem or 'no problem'}, not {self.status} {wanted}"


def refused(name: str, build: Build, *problems: str, noun: str = "models", kind: str = "onnx") -> Row:
    """A model or data set that is refused, at the door or by its check."""
    status = 415 if problems == ("format-unsafe",) else 422
    return Row(f"{kind}: {name}", lambda service: service.upload(noun, kind, build()), status, problems, timed=True)


def admitted(name: str, build: Build, *, noun: str = "models", kind: str = "onnx") -> Row:
    """A model or data set that is odd, but may be had."""
    return Row(f"{kind}: {name}", lambda service: service.upload(noun, kind, build()), 201, timed=True)


def call(name: str, expected: tuple[int, str], method: str, path: str, **more: Any) -> Row:
    """One request. The path may name `{model}`, `{dataset}`, `{job}` and `{artifact}` of a job that went well."""
    status, problem = expected

    def send(service: Service) -> Answer:
        return service.call(method, path.format(**service.known), **more)

    return Row(name, send, status, (problem,) if problem else ())


def known_cases(table: Mapping[str, tuple[Build, type[ModelpressError]]], mark: str = "", **where: str) -> list[Row]:
    """Rows of what a test of the reader itself holds: builder and refusal."""
    return [refused(f"{mark}{name}", build, error.slug, **where) for name, (build, error) in table.items()]
