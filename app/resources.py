"""What the process is connected to: database, blobs, broker. Passed in where it is needed, never fetched.

Knows no HTTP and no job logic.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.contracts.tasks import Queue, WorkKind
from app.settings import Settings
from app.stores.blobs import Blobs
from app.stores.database import Database, default_url
from app.stores.headroom import Headroom
from app.stores.keys import KeyCache
from app.stores.staging import Segments
from app.traces import Off, Opening, Traces, open_traces

_OUTAGE_S = 1.0  # a submission waits no longer for the broker; the sweeper rings later


class Broker:
    """The doorbell: tells some worker of a queue that a row of `work` waits."""

    def __init__(self, url: str, traces: Traces | None = None) -> None:
        """Prepare a client; nothing is contacted before the first ring."""
        self.url, self._traces = url, traces or Off()
        self._celery = Celery("modelpress", broker=url, set_as_current=False)
        self._celery.conf.update(
            task_serializer="json",
            accept_content=["json"],
            task_ignore_result=True,
            broker_connection_timeout=_OUTAGE_S,
            broker_transport_options={"socket_timeout": _OUTAGE_S, "socket_connect_timeout": _OUTAGE_S} | priorities(),
        )

    def ring(self, kind: WorkKind, work_id: str, queue: Queue, trace: str | None = None) -> bool:
        """Send the id to `queue`; return False when the broker is away, which loses nothing.

        `trace` is what the ring belongs to. The message does not carry it: it may be lost, and the row has it.
        """
        once_more = {"max_retries": 1, "interval_start": 0, "interval_max": 0.1}  # a pooled connection may be stale
        attributes = message(queue, work_id, "send")
        with self._traces.begin(Opening(f"send {queue.value}", trace, "producer", attributes)) as span:
            try:
                self._celery.send_task(kind.task, [work_id], queue=queue.value, retry=True, retry_policy=once_more)
            except (OperationalError, OSError) as error:
                span.fail(type(error).__name__)
                return False
        return True

    def depth(self, queue: Queue) -> int | None:
        """Return how many rings wait in `queue`, over all priorities; None when the broker is away."""
        try:
            with self._celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_max=0.1, timeout=_OUTAGE_S)
                return int(connection.default_channel.queue_declare(queue=queue.value, durable=True).message_count)
        except (OperationalError, OSError):
            return None

    def ping(self) -> bool:
        """Return whether the broker answers."""
        try:
            with self._celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_max=0.1, timeout=_OUTAGE_S)
        except (OperationalError, OSError):
            return False
        return True

    def eviction(self) -> str | None:
        """Return the server's `maxmemory-policy`; None when it is away or does not tell, as managed ones do."""
        try:
            with self._celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_max=0.1, timeout=_OUTAGE_S)
                found = connection.default_channel.client.config_get("maxmemory-policy")
        except (OperationalError, OSError, RedisError):
            return None
        return str(found["maxmemory-policy"]) if "maxmemory-policy" in found else None

    def close(self) -> None:
        """Close pooled connections."""
        self._celery.close()


@dataclass(frozen=True)
class Resources:
    """Everything outside the process; closes what it opened at the end of a `with` block."""

    settings: Settings
    database: Database
    blobs: Blobs
    broker: Broker
    segments: Segments = field(default_factory=Segments)
    keys: KeyCache = field(default_factory=KeyCache)
    headroom: Headroom = field(default_factory=Headroom)
    traces: Traces = field(default_factory=Off)

    def close(self) -> None:
        """Close every connection."""
        self.broker.close()
        self.database.close()
        self.traces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def priorities() -> dict[str, object]:
    """Return the transport options that sender and worker must share: 0 is served first, 9 last."""
    return {"priority_steps": [0, 3, 6, 9], "queue_order_strategy": "priority"}


def message(queue: Queue, work_id: str, operation: str) -> dict[str, str]:
    """Return what OpenTelemetry's conventions want a span of a message to tell; `operation` is `send` or `process`."""
    return {
        "messaging.system": "redis",
        "messaging.destination.name": queue.value,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.message.id": work_id,
    }


def connect(settings: Settings, part: str | None = None) -> Resources:
    """Return the resources that `settings` name; empty addresses mean files under `data_dir`.

    `part` is what this process is for traces: `gateway`, `worker`, `sweeper`; a command has none and sends none.
    """
    traces = open_traces(settings, part)
    return Resources(
        settings=settings,
        database=Database(settings.database_url or default_url(settings.data_dir)),
        blobs=Blobs.open(settings.blob_url or f"file://{quote(str(settings.data_dir.resolve() / 'blobs'))}"),
        broker=Broker(settings.broker_url or broker_url(settings.data_dir), traces),
        traces=traces,
    )


def broker_url(data_dir: Path) -> str:
    """Return the address of the bundled broker's socket."""
    return f"redis+socket://{quote(str(data_dir.resolve() / 'broker.sock'))}?virtual_host=0"
