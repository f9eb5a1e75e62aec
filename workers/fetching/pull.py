"""One fetch from its source to stored bytes: which protocol, how long, and when to stop. Records nothing itself."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from pydantic import TypeAdapter

from app.contracts.source import HttpsSource, MlflowSource, ModelSource, S3Source, Source
from app.contracts.tasks import Progress
from app.contracts.trigger import JOB_TAG
from app.errors import DigestMismatch, SourceRefused, TimeLimitExceeded
from app.formats import refuse_unsafe_file
from app.outside import Named
from app.resources import Resources
from app.settings import Settings
from app.stores import fetches, foreign, registrations
from app.stores.sinks import Stored
from app.stores.work import Claim
from workers.fetching.download import Opening, Say, download
from workers.fetching.https import Address
from workers.fetching.objects import Object
from workers.fetching.versions import bring, find
from workers.heartbeat import Heartbeat
from workers.registry import Registry
from workers.supervisor import End

STAGE = "fetching"
_LOOK_S = 0.2
Place = TypeVar("Place", bound=Named)
_SOURCE: TypeAdapter[Source] = TypeAdapter(ModelSource)


@dataclass(frozen=True)
class Pulled:
    """A file that came, and what was found out about where it came from."""

    path: Path
    stored: Stored
    origin: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Leave:
    """When to stop before the end: `drain` is the worker's, `max_run_s` the work's."""

    pulse: Heartbeat
    drain: Event
    settings: Settings
    max_run_s: int


def pull(resources: Resources, held: Claim, folder: Path, leave: Leave) -> Pulled | End:
    """Bring what the work is made of into `folder`, or return why it was left.

    Raises SourceUnreachable, SourceRefused, UrlForbidden, DigestMismatch, FormatUnsafe, PayloadTooLarge,
    TimeLimitExceeded; BadInput when it is empty, NotFound when it was deleted meanwhile, DependencyUnavailable when the
    database is away.
    """
    settings = resources.settings
    with resources.database.reading() as tx:
        source = _SOURCE.validate_python(fetches.source_of(tx, held.id))
        limit = min(_largest(settings, held), fetches.room(tx, held.tenant, settings.max_stored_bytes_per_tenant))
        looped = registrations.awaited(tx, held.id)
    leave.pulse.note(Progress(stage=STAGE, progress=0.0))
    wanted = _Wanted(source, held.tenant, folder / "in", limit, _teller(leave.pulse), JOB_TAG if looped else None)
    return asyncio.run(_until(_pull(settings, wanted), leave))


@dataclass(frozen=True)
class _Wanted:
    """What to bring, for whom, to where; a version with the tag `unless` is refused."""

    source: Source
    tenant: str
    folder: Path
    limit: int
    say: Say
    unless: str | None


def _largest(settings: Settings, held: Claim) -> int:
    model = held.id.startswith("mdl_")
    return min(settings.max_upload_bytes, settings.max_model_bytes) if model else settings.max_upload_bytes


async def _pull(settings: Settings, wanted: _Wanted) -> Pulled:
    source = wanted.source
    if isinstance(source, MlflowSource):
        server = named(settings.mlflow_servers, source.server, wanted.tenant)
        async with Registry.open(server, settings.fetch_idle_s) as registry:
            version = await find(registry, source, wanted.unless)
            path, stored = await bring(registry, version, wanted.folder, wanted.limit, wanted.say)
        return Pulled(path, stored, {"version": version.version})
    path = wanted.folder / "fetched"
    stored = await download(_opening(settings, wanted.tenant, source), path, wanted.limit, wanted.say)
    refuse_unsafe_file(path)
    if source.sha256 is not None and source.sha256 != stored.sha256:
        raise DigestMismatch(f"The source gives bytes with SHA-256 {stored.sha256}, and {source.sha256} was asked for.")
    return Pulled(path, stored)


def _opening(settings: Settings, tenant: str, source: HttpsSource | S3Source) -> Opening:
    if isinstance(source, HttpsSource):
        return Address(str(source.url), settings.fetch_idle_s, allow_private=settings.allow_private_urls).open
    store = named(settings.source_stores, source.store, tenant)
    return Object(foreign.open_store(store, settings.fetch_idle_s), source.key).open


def named(known: Mapping[str, Place], name: str, tenant: str) -> Place:
    """Return what the operator named so; raises SourceRefused for what this tenant may not use."""
    found = known.get(name)
    if found is None or not found.serves(tenant):
        raise SourceRefused(f"There is no store or server named {name} for this tenant.")
    return found


def _teller(pulse: Heartbeat) -> Say:
    def say(received: int, size: int | None) -> None:
        pulse.note(Progress(stage=STAGE, progress=min(received / size, 1.0) if size else 0.0))

    return say


async def _until(pulling: Coroutine[Any, Any, Pulled], leave: Leave) -> Pulled | End:
    """Let it run until it ends or has to be left, and see it ended in either case."""
    task = asyncio.ensure_future(pulling)
    watch = _Watch(leave)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK_S)
            end = watch.look()
            if end is not None and not task.done():
                return end
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Watch:
    """Tells when a fetch has to be left."""

    def __init__(self, leave: Leave) -> None:
        self._leave, self._deadline = leave, time.monotonic() + leave.max_run_s
        self._drain_until: float | None = None

    def look(self) -> End | None:
        """Return why to leave it, or None; raises TimeLimitExceeded."""
        pulse, now = self._leave.pulse, time.monotonic()
        if pulse.displaced:
            return End.DISPLACED
        if pulse.cancelled:
            return End.CANCELLED
        if now > self._deadline:
            raise TimeLimitExceeded(f"The source took longer than {self._leave.max_run_s} s in all.")
        if self._leave.drain.is_set():
            self._drain_until = self._drain_until or now + self._leave.settings.drain_s
            return End.DRAINED if now > self._drain_until else None
        return None
