"""Keeps an attempt alive in the database while its child works: renews the lease, stores progress, hears of a cancel.

One thread per attempt. It waits out a database that is away; only the fence decides whose work it is.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any, Self

import structlog

from app.contracts.tasks import Log, Progress
from app.errors import DependencyUnavailable
from app.logging import printable
from app.stores import work
from app.stores.database import Database
from app.traces import NoSpan, Span

_TICK_S = 1.0  # a cancel is heard and progress is stored within this
_MAX_EVENTS = 20_000  # per attempt: a child that floods its history is cut short
_MAX_STAGE_CHARS = 100  # the column's width
_MAX_LOG_CHARS = 2_000

log = structlog.get_logger(__name__)


class Heartbeat:
    """Runs while an attempt does, of work from `queue`. `cancelled` and `displaced` only ever turn true.

    `span` is the attempt as traces have it.
    """

    def __init__(self, database: Database, held: work.Claim, lease_s: float, outage_s: float) -> None:
        """Prepare; the thread starts with the `with` block."""
        self._database, self._held = database, held
        self.queue = held.queue
        self.span: Span = NoSpan()
        self._lease_s, self._outage_s = lease_s, outage_s
        self._lock, self._wake, self._over = threading.Lock(), threading.Event(), False
        self._figures: dict[str, object] = {}
        self._entries: list[dict[str, Any]] = []
        self._told = 0
        self._renewed = self._answered = time.monotonic()
        self.cancelled = False
        self.displaced = False  # another attempt, or nobody, owns the work now: write nothing
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{held.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over = True
        self._wake.set()
        self._thread.join()

    def note(self, said: Progress | Log) -> None:
        """Take over what the child said: its first word is stored at once, the rest at the next tick."""
        with self._lock:
            first = not self._told
            self._take_over(said)
        if first:
            self._wake.set()

    def note_sandbox(self, level: str) -> None:
        """Store how well the child is confined."""
        with self._lock:
            self._figures["sandbox"] = printable(level, 10)

    def flush(self) -> None:
        """Store what is left, now. Raises DependencyUnavailable."""
        figures, entries = self._take()
        if not figures and not entries:
            return
        try:
            with self._database.transaction() as tx:
                self.displaced |= not work.progress(tx, self._held, figures, entries)
        except DependencyUnavailable:
            self._put_back(figures, entries)
            raise

    def _take_over(self, said: Progress | Log) -> None:
        if isinstance(said, Log):
            self._append({"kind": "log", "message": printable(said.message, _MAX_LOG_CHARS)})
            return
        stage = printable(said.stage, _MAX_STAGE_CHARS)
        self._figures |= {"stage": stage, "progress": said.progress, "eta_s": said.eta_s}
        entry = {"kind": "progress", "stage": stage, "progress": said.progress, "eta_s": said.eta_s}
        if said.point is not None:
            self._append({**entry, "kind": "curve", "point": said.point.model_dump(mode="json")})
        elif self._entries and self._entries[-1]["kind"] == "progress" and self._entries[-1]["stage"] == stage:
            self._entries[-1] = entry
        else:
            self._append(entry)

    def _append(self, entry: dict[str, Any]) -> None:
        if self._told < _MAX_EVENTS:
            self._told += 1
            self._entries.append(entry)

    def _take(self) -> tuple[Mapping[str, object], list[dict[str, Any]]]:
        with self._lock:
            figures, entries = self._figures, self._entries
            self._figures, self._entries = {}, []
            return figures, entries

    def _put_back(self, figures: Mapping[str, object], entries: list[dict[str, Any]]) -> None:
        with self._lock:
            self._figures = {**figures, **self._figures}
            self._entries = entries + self._entries

    def _run(self) -> None:
        while True:
            self._wake.wait(min(_TICK_S, self._lease_s / 3))
            self._wake.clear()
            if self._over:
                return
            try:
                self._tick()
                self._answered = time.monotonic()
            except DependencyUnavailable:
                away_s = time.monotonic() - self._answered
                log.warning("the database does not answer", work=self._held.id, away_s=round(away_s))
                self.displaced |= away_s > self._outage_s
            if self.displaced:
                return

    def _tick(self) -> None:
        self.flush()
        if time.monotonic() - self._renewed < self._lease_s / 3:
            with self._database.reading() as tx:
                found = work.standing(tx, self._held)
        else:
            with self._database.transaction() as tx:
                found = work.renew(tx, self._held, self._lease_s)
            self._renewed = time.monotonic()
        self.cancelled |= found.cancel_requested
        self.displaced |= not found.still_ours
