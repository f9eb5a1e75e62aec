"""Live progress of uploads, jobs and downloads on standard error."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from app.contracts.job import Event
from modelpress.cli.units import duration

_ASIDE_EVERY_S = 3.0


@contextmanager
def transfer(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback `(bytes so far, bytes in all)` that moves a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def job_progress(*, quiet: bool, aside: Callable[[], str] | None = None) -> Iterator[Callable[[Event], None]]:
    """Yield a callback for events: a bar with stage, percent, ETA and loss; log lines above it.

    `aside` says what stands beside the bar; it is asked every few seconds, events or none, and may take its time.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[eta]}"),
        TextColumn("[cyan]{task.fields[loss]}[/cyan]"),
        TextColumn("{task.fields[aside]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet) as bar:
        task = bar.add_task("waiting for a worker", total=1.0, eta="", loss="", aside="")

        def show(event: Event) -> None:
            if event.kind in {"log", "step"} and event.message and not quiet:
                bar.console.print(f"  {event.message}", markup=False, highlight=False)
            if event.stage:
                bar.update(task, description=event.stage)
            if event.progress is not None:
                eta = f"about {duration(event.eta_s)} left" if event.eta_s is not None else ""
                bar.update(task, completed=event.progress, eta=eta)
            if event.point is not None:
                bar.update(task, loss=_loss(event))

        with _asking(bar, task, None if quiet else aside):
            yield show


@contextmanager
def _asking(bar: Progress, task: TaskID, aside: Callable[[], str] | None) -> Iterator[None]:
    """Keep what stands beside the bar current."""
    if aside is None:
        yield
        return
    over = threading.Event()

    def ask() -> None:
        bar.update(task, aside=aside())
        while not over.wait(_ASIDE_EVERY_S):
            bar.update(task, aside=aside())

    thread = threading.Thread(target=ask, name="aside", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _loss(event: Event) -> str:
    point = event.point
    if point is None:
        return ""
    parts = [
        f"{name} {value:.4f}"
        for name, value in (("loss", point.loss), ("validation", point.validation_score))
        if value is not None
    ]
    return ", ".join(parts)
