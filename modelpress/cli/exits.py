"""Exit codes, and the one place where errors become a message and a code."""

from enum import IntEnum
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from app.contracts.problem import Problem
from modelpress.errors import ClientError, InvalidInput, ProblemError, ServerUnreachable


class ExitCode(IntEnum):
    """What a script can tell from the code; 130 is the shells' convention for an interrupt."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    GUARD_NOT_MET = 4
    REFUSED = 5
    CANCELLED = 130


EXIT_CODES_HELP = (
    "Exit codes: 0 done, 1 the job or a transfer failed, 2 wrong usage, 3 no server answers, "
    "4 the guard was not met, 5 the server refused the request, 130 cancelled."
)


def print_problem(problem: Problem) -> None:
    """Say on standard error what went wrong, where, and what cures it."""
    console = Console(stderr=True)
    console.print(f"[red]{problem.name}[/red]: {problem.detail}", highlight=False, soft_wrap=True)
    for fault in problem.errors:
        console.print(f"  {fault.pointer}: {fault.detail}", markup=False, highlight=False, soft_wrap=True)
    if problem.cure:
        console.print(f"  cure: {problem.cure}", markup=False, highlight=False, soft_wrap=True)


def code_of(error: ClientError) -> ExitCode:
    """Print the error and return its exit code."""
    if isinstance(error, ProblemError):
        print_problem(error.problem)
        return ExitCode.GUARD_NOT_MET if error.problem.name == "guard-not-met" else ExitCode.REFUSED
    console = Console(stderr=True)
    console.print("[red]error[/red]: ", end="")
    console.print(str(error), markup=False, highlight=False, soft_wrap=True)
    if isinstance(error, ServerUnreachable):
        console.print("  start one here with `modelpress up`, or name one with --server or MODELPRESS_SERVER")
        return ExitCode.UNREACHABLE
    return ExitCode.USAGE if isinstance(error, InvalidInput) else ExitCode.FAILED


class ReportingGroup(TyperGroup):
    """Turns the client's errors into a message and an exit code, for every command."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # noqa: ANN401  # a subclass of its Context
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ClientError as error:
            raise typer.Exit(code_of(error)) from error
