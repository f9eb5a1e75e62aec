"""What `/metrics` tells: this process' counters, and figures of the whole service, from the database at each scrape."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.api.envelope import Served
from app.errors import DependencyUnavailable
from app.resources import Resources
from app.services import health
from app.traces import Drops

# The holdings take a pass over every record, so scrapes within this time share one.
_HOLDINGS_S = 60.0


class Figures:
    """The registry of this process."""

    def __init__(self, resources: Resources) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("modelpress_requests", "requests answered", labels, registry=self.registry)
        self._seconds = Histogram(
            "modelpress_request_seconds", "time to the end of the answer", ("method", "route"), registry=self.registry
        )
        self.registry.register(Drops(resources.traces))
        self.registry.register(_FromDatabase(lambda: _of_queues(resources)))
        self.registry.register(_FromDatabase(lambda: _of_leases(resources)))
        self.registry.register(_FromDatabase(Kept(lambda: [*_of_holdings(resources)], _HOLDINGS_S)))

    def count(self, served: Served) -> None:
        """Count one answered request."""
        self._requests.labels(served.method, served.route, str(served.status)).inc()
        self._seconds.labels(served.method, served.route).observe(served.seconds)


class Kept:
    """Asks once for what is asked for several times within `for_s` seconds, by one thread at a time."""

    def __init__(
        self, ask: Callable[[], list[Metric]], for_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._for_s, self._clock = ask, for_s, clock
        self._lock = threading.Lock()
        self._answer: list[Metric] = []
        self._until = float("-inf")

    def __call__(self) -> list[Metric]:
        """Return the answer of now, or one that is not older than that."""
        with self._lock:
            if self._clock() >= self._until:
                self._answer = self._ask()
                self._until = self._clock() + self._for_s
            return self._answer


class _FromDatabase(Collector):
    """Tells nothing while the database is away: a scrape answers with what there is."""

    def __init__(self, ask: Callable[[], Iterable[Metric]]) -> None:
        self._ask = ask

    def describe(self) -> Iterable[Metric]:
        return []  # keeps registration from scraping the database

    def collect(self) -> Iterator[Metric]:
        try:
            found = list(self._ask())
        except DependencyUnavailable:
            return
        yield from found


def _of_queues(resources: Resources) -> Iterator[Metric]:
    depth = GaugeMetricFamily("modelpress_queue_depth", "unfinished work", labels=("queue", "state"))
    age = GaugeMetricFamily("modelpress_queue_age_seconds", "age of the oldest", labels=("queue", "state"))
    for row in health.queues(resources):
        depth.add_metric((row["queue"], row["state"]), row["count"])
        age.add_metric((row["queue"], row["state"]), row["oldest_s"])
    yield depth
    yield age


def _of_leases(resources: Resources) -> Iterator[Metric]:
    meaning = "time since the running work that has gone longest without a renewal of its lease was renewed"
    age = GaugeMetricFamily("modelpress_lease_age_seconds", meaning, labels=("queue",))
    for queue, age_s in health.lease_ages(resources).items():
        age.add_metric((queue,), age_s)
    yield age


def _of_holdings(resources: Resources) -> Iterator[Metric]:
    # Gauges, none of them counters: records may be deleted, and work that is resumed has lost nothing yet.
    found = health.holdings(resources)
    ended = GaugeMetricFamily("modelpress_jobs_ended", "ended work on record", labels=("kind", "state"))
    for one in found.tally.ended:
        ended.add_metric((one.kind, one.state), one.count)
    yield ended
    yield GaugeMetricFamily("modelpress_attempts_lost", "attempts that lost their worker", value=found.tally.lost)
    stored = GaugeMetricFamily("modelpress_stored_bytes", "bytes that records name", labels=("noun",))
    for noun, size_bytes in found.stored_bytes.items():
        stored.add_metric((noun,), size_bytes)
    yield stored
