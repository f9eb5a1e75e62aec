"""API keys by their digest, and what this process remembers of them. Knows no HTTP and never sees a key itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select, update

from app.stores.database import now
from app.stores.records import Record
from app.stores.tables import keys

HOLDS_S = 3.0  # a key that was revoked elsewhere still opens this process for so long
_NOTED_EVERY_S = 60.0  # how exact `last_used_at` is: a key in use costs one write in this time
_MANY = 1_000


@dataclass(frozen=True)
class Known:
    """Whom a key stands for; `id` is None where no key is asked for."""

    id: str | None
    tenant: str
    scopes: frozenset[str]


class KeyCache:
    """Keys that were found lately, so that not every call asks the database. Remembers no key that was not found."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, tuple[float, Known]] = {}

    def get(self, sha256: str) -> Known | None:
        """Return the key of this digest if it was found within HOLDS_S."""
        until, known = self._held.get(sha256, (0.0, None))
        return known if known is not None and self._clock() < until else None

    def put(self, sha256: str, known: Known) -> None:
        """Remember a key that was found now."""
        if len(self._held) >= _MANY:
            self._held = {digest: held for digest, held in self._held.items() if held[0] > self._clock()}
        self._held[sha256] = (self._clock() + HOLDS_S, known)

    def forget(self) -> None:
        """Forget all, so that a change holds in this process at once."""
        self._held = {}


def of_digest(tx: Connection, sha256: str) -> Known | None:
    """Return the key of this digest unless it is unknown, revoked or expired."""
    holds = (keys.c.revoked_at.is_(None), or_(keys.c.expires_at.is_(None), keys.c.expires_at > now()))
    row = tx.execute(select(keys).where(keys.c.sha256 == sha256, *holds)).mappings().one_or_none()
    return None if row is None else Known(row["id"], row["tenant"], frozenset(row["document"]["scopes"]))


def is_unnoted(tx: Connection, key_id: str) -> bool:
    """Return whether the use of the key has not been noted within the last minute."""
    stale = or_(keys.c.last_used_at.is_(None), keys.c.last_used_at < now() - _NOTED_EVERY_S)
    return tx.execute(select(keys.c.id).where(keys.c.id == key_id, stale)).one_or_none() is not None


def note_use(tx: Connection, key_id: str) -> None:
    """Note that the key was used now."""
    tx.execute(update(keys).where(keys.c.id == key_id).values(last_used_at=now()))


def revoke(tx: Connection, row: Record) -> None:
    """End a key that the caller has read within its tenant; the time of a first revocation stays."""
    tx.execute(update(keys).where(keys.c.id == row["id"]).values(revoked_at=func.coalesce(keys.c.revoked_at, now())))


def expire(tx: Connection, row: Record, grace_s: float) -> None:
    """Let a key that the caller has read within its tenant end in `grace_s` seconds, or earlier where it would."""
    sooner = or_(keys.c.expires_at.is_(None), keys.c.expires_at > now() + grace_s)
    tx.execute(update(keys).where(keys.c.id == row["id"], sooner).values(expires_at=now() + grace_s))
