"""What the commands that run a job share: the model's id, waiting, the report, the exit code."""

from collections.abc import Callable
from pathlib import Path

import typer
from rich.console import Console

from app.contracts.job import Job, JobState
from app.contracts.report import Report
from modelpress.cli import render
from modelpress.cli.exits import ExitCode, print_problem
from modelpress.cli.progress import job_progress, transfer
from modelpress.client import Client
from modelpress.errors import Conflict, InvalidInput, NotFound
from modelpress.places import is_place


def model_id(client: Client, source: str, *, quiet: bool) -> str:
    """Return the id of a model on the server: given as such, pulled from this place, or uploaded from this path."""
    if is_place(source):
        return client.pull_model(source).id
    if source.startswith("mdl_") and not Path(source).exists():
        return client.model(source).id
    if not Path(source).exists():
        raise InvalidInput(f"{source} does not exist")
    with transfer(f"upload {Path(source).name}", quiet=quiet) as progress:
        return client.upload_model(source, progress=progress).id


def announce(job: Job, *, quiet: bool) -> None:
    """Say which job was started."""
    if not quiet:
        Console(stderr=True).print(f"job {job.id}", highlight=False)


def follow(client: Client, job: Job, *, quiet: bool, aside: Callable[[], str] | None = None) -> Job:
    """Wait with a live bar; an interrupt asks the server to cancel and waits for that.

    `aside` says what stands beside the bar.
    """
    try:
        with job_progress(quiet=quiet, aside=aside) as show:
            return client.wait(job, show)
    except KeyboardInterrupt:
        Console(stderr=True).print(f"cancelling {job.id}; interrupt again to leave it to the server")
        try:
            client.cancel(job)
            return client.wait(job)
        except Conflict:  # it ended in the meantime
            return client.job(job.id)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.CANCELLED) from None


def report_of(client: Client, job: Job) -> Report | None:
    """Return the report; a job that was cancelled or failed early has none."""
    try:
        return client.report(job)
    except (NotFound, Conflict):
        return None


def console_for(job: Job, report: Report | None) -> Console:
    """Say what went wrong, and the state where there is no report; return where the rest is printed."""
    if job.error:
        print_problem(job.error)
    console = render.console()
    if report is None:
        console.print(f"{job.id} {job.state}")
    return console


def exit_code(job: Job) -> ExitCode:
    """Return what a script is told about a job that ended."""
    if job.state is JobState.SUCCEEDED:
        return ExitCode.OK
    if job.state is JobState.CANCELLED:
        return ExitCode.CANCELLED
    guard = job.error is not None and job.error.name == "guard-not-met"
    return ExitCode.GUARD_NOT_MET if guard else ExitCode.FAILED
