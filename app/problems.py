"""Turns an error of ours into the problem that the API answers and that failed work keeps."""

from app.contracts.problem import Problem, ProblemError
from app.errors import PROBLEM_BASE, ModelpressError


def problem_of(error: ModelpressError, instance: str | None = None) -> Problem:
    """Return the RFC 9457 problem of `error`."""
    return Problem.model_validate(
        {
            "type": PROBLEM_BASE + error.slug,
            "title": error.title,
            "status": error.status,
            "detail": error.detail,
            "instance": instance,
            "errors": [ProblemError(pointer=pointer, detail=detail) for pointer, detail in error.errors],
            "retryable": error.retryable,
            "at_fault": error.at_fault,
            "cure": error.cure,
        }
    )
