"""Blobs that no record names, as when a model was deleted: first to the trash, a day later for good.

A blob may be named again in the moment it is collected, by an upload of the same bytes. So nothing goes at once: what
is in the trash and named again is put back at the next look.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.stores import records
from app.stores.blobs import Blobs, Listed
from app.stores.database import Database

KEEP_S = 86_400.0  # younger blobs may belong to work or an upload that is not recorded yet; also the time in the trash
_TRASH = "trash"


@dataclass(frozen=True)
class Collected:
    """What one look did, or would do: keys to the trash, keys out of it, keys deleted."""

    trashed: list[str]
    restored: list[str]
    deleted: list[str]


@dataclass(frozen=True)
class _Named:
    """What the records name."""

    digests: set[str]
    uploads: set[str]

    def __contains__(self, key: str) -> bool:
        kind, _, rest = key.partition("/")
        return rest.partition("/")[0] in (self.uploads if kind == "uploads" else self.digests)


def collect(database: Database, blobs: Blobs, now: float, *, dry_run: bool) -> Collected:
    """Look at every blob once; `now` is Unix time in seconds. `dry_run` changes nothing.

    Raises DependencyUnavailable.
    """
    # Listed before the records are read, so what is named meanwhile is seen as named.
    old = list(_older(blobs, now - KEEP_S))
    trash = [(found.key, *_in_trash(found)) for found in blobs.listed(_TRASH)]
    with database.reading() as tx:
        named = _Named(records.referenced_digests(tx), records.known_uploads(tx))
    orphans = [key for key in old if key not in named]
    restored = {where: key for where, key, _at in trash if key in named}
    deleted = [where for where, key, at in trash if key not in named and at < now - KEEP_S]
    if not dry_run:
        for key in orphans:
            blobs.move(key, f"{_TRASH}/{now:.0f}/{key}")
        for where, key in restored.items():
            _restore(blobs, where, key)
        blobs.delete(deleted)
    return Collected(orphans, list(restored.values()), deleted)


def _older(blobs: Blobs, than: float) -> Iterator[str]:
    for prefix in ("sha256", "zstd", "uploads", "tmp"):
        yield from (found.key for found in blobs.listed(prefix) if found.at < than)


def _in_trash(found: Listed) -> tuple[str, float]:
    """Return the former key, and when it came to the trash."""
    _trash, at, key = found.key.split("/", 2)
    return key, float(at)


def _restore(blobs: Blobs, where: str, key: str) -> None:
    if blobs.holds(key):
        blobs.delete([where])
    else:
        blobs.move(where, key)
