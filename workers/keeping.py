"""The checkpoints of one attempt: brought to its child, and what that leaves stored and recorded. Never in the way.

A checkpoint is a convenience: whatever goes wrong with one is logged, and the work goes on without it.
"""

import threading
import time
from pathlib import Path
from typing import Self

import structlog

from app.contracts.tasks import CompressOrder, Kept, Log, Order
from app.errors import ArtifactCorrupt, ArtifactMissing, ModelpressError
from app.resources import Resources
from app.stores import checkpoints
from app.stores.blobs import address
from app.stores.work import Claim
from workers.heartbeat import Heartbeat
from workers.scratch import made_by_child

_PATH = "in/checkpoint"

log = structlog.get_logger(__name__)


def with_earlier(resources: Resources, held: Claim, order: Order, folder: Path, pulse: Heartbeat) -> Order:
    """Return the order with the latest checkpoint, its digest verified, if there is one.

    Raises DependencyUnavailable; bytes that are gone or damaged are told of, and the work starts from the beginning.
    """
    if not isinstance(order, CompressOrder):
        return order
    with resources.database.reading() as tx:
        found = checkpoints.find(tx, held.id)
    if found is None:
        return order
    try:
        resources.blobs.fetch(found.sha256, folder / _PATH)
    except (ArtifactCorrupt, ArtifactMissing) as error:
        log.warning("checkpoint unusable", why=error.slug)
        what = "is damaged" if isinstance(error, ArtifactCorrupt) else "is gone"
        pulse.note(Log(message=f"the checkpoint {what}: the work starts from the beginning"))
        return order
    return order.model_copy(update={"checkpoint": _PATH})


class Keeper:
    """Stores what the child leaves, in a thread of its own, the latest first. Use it in a `with` block."""

    def __init__(self, resources: Resources, held: Claim, folder: Path) -> None:
        """Prepare; the thread starts with the first checkpoint."""
        self._resources, self._held, self._folder = resources, held, folder
        self._changed = threading.Condition()
        self._latest: Kept | None = None
        self._busy = self._over = False
        self._thread: threading.Thread | None = None

    def take(self, left: Kept) -> None:
        """Store this one next; one that still waits is passed over."""
        with self._changed:
            self._latest = left
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"keeper-{self._held.id}", daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close(0)

    def close(self, limit_s: float) -> None:
        """Wait until what was left is stored, but not longer than this; take no more."""
        until = time.monotonic() + limit_s
        with self._changed:
            while (self._busy or self._latest is not None) and time.monotonic() < until:
                self._changed.wait(max(0.0, until - time.monotonic()))
            if self._busy or self._latest is not None:
                log.warning("the last checkpoint was not stored in time")
            self._over, self._latest = True, None
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._latest is None and not self._over:
                    self._changed.wait()
                left, self._latest = self._latest, None
                if left is None:
                    return
                self._busy = True
            try:
                self._keep(left)
            except FileNotFoundError:
                log.debug("checkpoint passed over", file=left.file)  # the child has left a newer one
            except (ModelpressError, OSError):
                log.warning("checkpoint not stored", file=left.file, exc_info=True)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _keep(self, left: Kept) -> None:
        started = time.monotonic()
        blobs, path = self._resources.blobs, self._folder / "out" / left.file
        with made_by_child(self._folder, left.file) as file:
            stored = blobs.put_open(file)
        path.unlink(missing_ok=True)
        with self._resources.database.transaction() as tx:
            found = checkpoints.record(tx, self._held, stored, left.position)
        # Its bytes are this attempt's alone, so whoever does not name them needs them no more.
        gone = found.replaced if found.still_ours else stored.sha256
        if gone is not None:
            blobs.delete([address(gone)])
        took_s = round(time.monotonic() - started, 2)
        log.info("checkpoint stored", size_bytes=stored.size_bytes, position=left.position.words, took_s=took_s)
