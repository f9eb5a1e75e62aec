"""Turn an error of the tree into the problem details that the API answers and that failed work stores."""

from typing import Literal, cast

from app.contracts.problem import Problem, ProblemError
from app.errors import PROBLEM_BASE, ModelpressError


def problem_of(error: ModelpressError) -> Problem:
    """Return the RFC 9457 object of `error`; the caller adds `instance`."""
    return Problem(
        type=PROBLEM_BASE + error.slug,
        title=error.title,
        status=error.status,
        detail=error.detail,
        errors=[ProblemError(pointer=pointer, detail=message) for pointer, message in error.errors],
        retryable=error.retryable,
        at_fault=cast("Literal['user', 'service']", error.at_fault),
        cure=error.cure,
    )
