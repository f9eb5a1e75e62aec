"""RFC 9457 problem details, as answered by the API and stored on failed work."""

from typing import Literal

from pydantic import Field

from app.contracts.base import Contract


class ProblemError(Contract):
    """One fault inside the request body."""

    pointer: str = Field(description="JSON pointer into the request body", examples=["/recipe/steps/0/keep"])
    detail: str


class Problem(Contract):
    """Why something was refused or failed, and who can cure it."""

    type: str = Field(description="stable address of the problem's page in docs/problems.md")
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[ProblemError] = []
    retryable: bool = False
    at_fault: Literal["user", "service"] = "service"
    cure: str = ""

    @property
    def name(self) -> str:
        """The last part of the type, such as `model-malformed`."""
        return self.type.rsplit("/", 1)[-1]
