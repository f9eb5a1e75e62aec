"""The sweeper: `python -m workers.sweeper`. Takes back work whose worker is gone and rings lost doorbells.

Beside that it sends webhooks, starts the jobs of schedules, removes records that were kept for long enough and collects
blobs that no record names. Any number may run. Survives database and broker being away: it waits and looks again.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import structlog

from app.errors import DependencyUnavailable
from app.logging import configure
from app.resources import Broker, Resources, connect
from app.services import schedules
from app.settings import Settings
from app.stores import orphans, retention, searches, waiting, work
from workers import webhooks

_LONGEST_WAIT_S = 30.0
_RENEW_WITHIN_S = 2.0  # a heartbeat looks every second

log = structlog.get_logger(__name__)


class Sweep:
    """Sweeps again and again, and gives workers the time to renew their leases after the database was away.

    Else an outage longer than a lease would take all running work from workers that are well.
    """

    def __init__(self, resources: Resources, stop: threading.Event) -> None:
        """Prepare; nothing is swept yet."""
        self._resources, self._stop, self.was_away = resources, stop, False

    def __call__(self) -> int:
        """Sweep once; raises DependencyUnavailable."""
        if self.was_away and self._resources.database.ping():
            self._stop.wait(self._resources.settings.lease_s / 3 + _RENEW_WITHIN_S)
            self.was_away = False
        try:
            return sweep_once(self._resources)
        except DependencyUnavailable:
            self.was_away = True
            raise


def sweep_once(resources: Resources) -> int:
    """Sweep the work and ring; return how many doorbells were rung. Raises DependencyUnavailable."""
    settings, database = resources.settings, resources.database
    _hurry_searches(resources)
    with database.reading() as tx:
        stale = work.stale(tx, settings.ring_again_s)
        if not stale:
            return 0
        queued = waiting.per_queue(tx)
    with database.transaction() as tx:
        bells = work.sweep(tx, stale, settings.ring_again_s, settings.max_losses)
    rung = 0
    for bell in _due(resources.broker, bells, queued):
        if not resources.broker.ring(bell.kind, bell.id, bell.queue, bell.trace):
            log.warning("the broker does not answer", unrung=len(bells) - rung)
            break
        rung += 1
    if rung:
        log.info("rung", bells=rung)
    return rung


def _hurry_searches(resources: Resources) -> None:
    """See to searches whose time is up, however busy all workers are; who was woken is rung for in the same sweep."""
    with resources.database.reading() as tx:
        due = searches.due(tx)
    for search_id in due:
        with resources.database.transaction() as tx:
            searches.hurry(tx, search_id)


def _due(broker: Broker, bells: list[work.Bell], queued: Mapping[str, int]) -> Iterator[work.Bell]:
    """Yield the bells to ring: new ones always, old ones only as far as the broker holds fewer than rows wait.

    Otherwise a long queue would be rung again and again and fill the broker.
    """
    yield from (bell for bell in bells if not bell.again)
    old = [bell for bell in bells if bell.again]
    for queue in {bell.queue for bell in old}:
        held = broker.depth(queue)
        gap = queued.get(queue, 0) - (held or 0)
        yield from [bell for bell in old if bell.queue == queue][: max(gap, 0)]


def collect_once(resources: Resources, clock: Callable[[], float] = time.time) -> orphans.Collected:
    """Collect the blobs that no record names. Raises DependencyUnavailable."""
    dry_run = resources.settings.collect_dry_run
    found = orphans.collect(resources.database, resources.blobs, clock(), dry_run=dry_run)
    if found.trashed or found.restored or found.deleted:
        counts = {name: len(keys) for name, keys in vars(found).items()}
        log.info("blobs collected", dry_run=dry_run, **counts)
    return found


def retire_once(resources: Resources, stop: threading.Event) -> int:
    """Remove the records that were kept for long enough; return how many went. Raises DependencyUnavailable."""
    count = 0
    for gone in retention.apply(resources.database, resources.settings.retention):
        if gone.ids:
            count += len(gone.ids)
            log.info("records retired", tenant=gone.tenant, noun=gone.noun, count=len(gone.ids), bytes=gone.bytes)
        if stop.is_set():
            break
    return count


def repeat(action: Callable[[], object], every_s: float, stop: threading.Event) -> None:
    """Do `action` every `every_s` seconds until `stop`; after a failure wait longer each time."""
    wait_s = every_s
    while True:
        try:
            action()
            wait_s = every_s
        except DependencyUnavailable as error:
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            log.warning("a part of the service does not answer", detail=error.detail, wait_s=wait_s)
        except Exception:  # the last resort: this process is what recovers all others
            wait_s = _LONGEST_WAIT_S
            log.exception("the sweep broke")
        if stop.wait(wait_s):
            return


def run(resources: Resources, stop: threading.Event) -> None:
    """Do all of this until `stop`; no slow webhook receiver or blob store holds up the sweep."""
    settings = resources.settings

    def deliver() -> int:
        return webhooks.deliver_due(resources)

    def fire() -> int:
        return schedules.fire_due(resources)

    beside = [
        threading.Thread(target=repeat, args=(deliver, settings.sweep_every_s, stop), name="webhooks"),
        threading.Thread(target=repeat, args=(fire, settings.sweep_every_s, stop), name="schedules"),
        threading.Thread(target=repeat, args=(lambda: retire_once(resources, stop), settings.collect_every_s, stop)),
        threading.Thread(target=repeat, args=(lambda: collect_once(resources), settings.collect_every_s, stop)),
    ]
    for thread in beside:
        thread.start()
    repeat(Sweep(resources, stop), settings.sweep_every_s, stop)
    for thread in beside:
        thread.join()


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    settings, stop = Settings(), threading.Event()
    configure(settings.log_level)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_signal: stop.set())
    log.info("sweeper starts", every_s=settings.sweep_every_s)
    with connect(settings, "sweeper") as resources:
        run(resources, stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
