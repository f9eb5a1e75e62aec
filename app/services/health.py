"""Whether the parts answer, and how much waits."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.resources import Resources
from app.stores import figures, records


@dataclass(frozen=True)
class Readiness:
    """What answers. A broker that is away does not stop submissions: rows are written and rung later."""

    database: bool
    blobs: bool
    broker: bool
    sandbox: str | None

    @property
    def ready(self) -> bool:
        """Whether requests can be served."""
        return self.database and self.blobs


def readiness(resources: Resources) -> Readiness:
    """Ask every part; `sandbox` is the level that the latest compute child reported."""
    database = resources.database.ping()
    sandbox = None
    if database:
        with resources.database.reading() as tx:
            sandbox = records.latest_sandbox(tx)
    return Readiness(database, resources.blobs.ping(), resources.broker.ping(), sandbox)


def queues(resources: Resources) -> Iterable[records.Record]:
    """Return `queue`, `state`, `count` and `oldest_s` of unfinished work."""
    with resources.database.reading() as tx:
        return records.queue_figures(tx)


@dataclass(frozen=True)
class Holdings:
    """What all records together hold: ended work and lost attempts, and bytes by noun."""

    tally: figures.Tally
    stored_bytes: dict[str, int]


def lease_ages(resources: Resources) -> dict[str, float]:
    """Return, by queue, the seconds since the running work that has gone longest without a renewal was renewed."""
    with resources.database.reading() as tx:
        return figures.lease_ages(tx, resources.settings.lease_s)


def holdings(resources: Resources) -> Holdings:
    """Read every record once: half a second of SQLite's processor time for 100,000 jobs with models and artifacts."""
    with resources.database.reading() as tx:
        return Holdings(figures.tally(tx), figures.stored_bytes(tx))
