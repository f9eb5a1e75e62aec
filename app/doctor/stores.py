"""Database, broker, blob store and data folder: whether they answer, and as what they should be."""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from app.contracts.operations import Finding
from app.doctor.words import gib, ok, problem, warning
from app.errors import ModelpressError
from app.resources import Resources
from app.settings import Settings
from app.stores import migrate, records
from app.stores.database import Database

_SKEWED_S = 30.0
_SKEWED_TOO_MUCH_S = 240.0  # signed deliveries are refused from 300 s on
_ANSWERS_SLOWLY_S = 0.5


def look_at_folder(settings: Settings) -> Iterator[Finding]:
    """Yield how the data folder stands; it is not made."""
    folder, about = settings.data_dir.absolute(), "data folder"
    if not folder.is_dir():
        yield problem(about, f"{folder} is not there", "name the right one: --data or MODELPRESS_DATA_DIR")
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield problem(about, f"user {os.getuid()} may not write {folder}", f"chown -R {os.getuid()} {folder}")
        return
    if folder.stat().st_mode & stat.S_IWOTH:
        yield warning(about, f"every user of this machine may write {folder}", f"chmod o-w {folder}")
    yield _room(about, folder, settings.max_upload_bytes, "an upload of the largest size")


def _room(about: str, folder: Path, needed_bytes: int, what: str) -> Finding:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        cure = f"make room below {folder}, or lower what may be sent (MODELPRESS_MAX_UPLOAD_BYTES)"
        return warning(about, f"{gib(free)} are free, and {what} takes {gib(needed_bytes)}", cure)
    return ok(about, f"{folder}: {gib(free)} free")


def look_at_database(database: Database) -> Iterator[Finding]:
    """Yield whether it answers, has this code's schema, and agrees on the time. Raises nothing."""
    about, began = "database", time.time()
    try:
        with database.reading() as tx:
            clock = records.clock(tx)
        took_s, has = time.time() - began, migrate.current(database)
    except ModelpressError:
        at = database.engine.url.render_as_string(hide_password=True)
        cure = "start it, or correct DATABASE_URL; the gateway answers 503 until then"
        yield problem(about, f"{at} does not answer", cure)
        return
    kind = database.engine.dialect.name
    yield from _schema(has, kind)
    yield from _skew(clock - (began + took_s / 2))
    if took_s > _ANSWERS_SLOWLY_S:
        cure = "look at its load; every call waits for it several times"
        yield warning(about, f"it took {took_s:.1f} s to connect and answer", cure)


def _schema(has: str | None, kind: str) -> Iterator[Finding]:
    newest, cure = migrate.newest(), "python -m app.stores.migrate"
    if has == newest:
        yield ok("database", f"{kind} answers, schema {has} is this code's")
    elif has is None:
        yield problem("database", f"{kind} answers, but holds no tables", cure)
    elif has > newest:
        yield problem("database", f"its schema {has} is newer than this code's {newest}", "install the newer version")
    else:
        yield problem("database", f"its schema {has} is older than this code's {newest}", cure)


def _skew(seconds: float) -> Iterator[Finding]:
    said = f"its clock and this machine's are {abs(seconds):.1f} s apart"
    cure = "keep both in time with NTP; leases go by the database's clock alone, signatures by this machine's"
    if abs(seconds) >= _SKEWED_TOO_MUCH_S:
        yield problem("clock", f"{said}: signed deliveries are refused", cure)
    elif abs(seconds) >= _SKEWED_S:
        yield warning("clock", said, cure)
    else:
        yield ok("clock", said)


def look_at_broker(resources: Resources) -> Iterator[Finding]:
    """Yield whether it answers, and whether it may throw away what waits."""
    about = "broker"
    if not resources.broker.ping():
        cure = "start it, or correct BROKER_URL; nothing is lost, and what waits is done once it is back"
        yield problem(about, "it does not answer: no worker hears of work", cure)
        return
    policy = resources.broker.eviction()
    if policy is None:
        yield ok(about, "it answers; its maxmemory-policy cannot be read here, and should be noeviction")
    elif policy == "noeviction":
        yield ok(about, "it answers, and evicts nothing")
    else:
        cure = "set maxmemory-policy to noeviction"
        yield warning(about, f"its maxmemory-policy is {policy}: rings may be lost, and come half a minute late", cure)


def look_at_blobs(resources: Resources) -> Iterator[Finding]:
    """Yield whether an object of ours can be written, read and deleted."""
    began = time.monotonic()
    try:
        resources.blobs.probe()
    except ModelpressError as error:
        cure = "look at BLOB_URL, its credentials, its rights (put, get, delete, list) and its room"
        yield problem("blob store", f"an object cannot be written, read and deleted: {error.detail}", cure)
        return
    yield ok("blob store", f"an object was written, read and deleted in {1e3 * (time.monotonic() - began):.0f} ms")
