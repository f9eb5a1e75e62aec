"""API keys: made, listed, rotated, revoked, recognised. A key is shown once and kept as its digest alone."""

import hashlib
import re
import secrets
import string

from app.contracts.base import Page, new_id
from app.contracts.key import Key, KeyCreate, KeyRotate
from app.errors import Conflict
from app.resources import Resources
from app.services.caller import Caller, timestamp
from app.stores import keys as store
from app.stores import records
from app.stores.keys import Known
from app.stores.tables import keys

_MARK = "mp_"  # lets scanners for leaked secrets, and our own log, recognise a key
_LETTERS = string.ascii_letters + string.digits
_RANDOM_LETTERS = 43  # 256 bits, so that a plain digest cannot be turned back
_SHOWN = len(_MARK) + 8
_KEY = re.compile(rf"{_MARK}[A-Za-z0-9]{{{_RANDOM_LETTERS}}}")


def create(caller: Caller, request: KeyCreate) -> Key:
    """Make a key of the caller's tenant; the answer alone shows it."""
    with caller.resources.database.transaction() as tx:
        return _add(tx, caller, request)


def read(caller: Caller, key_id: str) -> Key:
    """Return a key without itself; raises NotFound."""
    with caller.resources.database.reading() as tx:
        return key_of(records.get(tx, keys, caller.tenant, key_id))


def page(caller: Caller, cursor: records.Cursor) -> Page[Key]:
    """Return one page of the tenant's keys, newest first, ended ones too."""
    with caller.resources.database.reading() as tx:
        rows = records.page(tx, keys, caller.tenant, cursor)
    shown = [key_of(row) for row in rows[: cursor.limit]]
    return Page[Key](items=shown, next=shown[-1].id if len(rows) > cursor.limit else None)


def revoke(caller: Caller, key_id: str) -> None:
    """End a key: here at once, in other gateways within HOLDS_S; raises NotFound."""
    with caller.resources.database.transaction() as tx:
        store.revoke(tx, records.get(tx, keys, caller.tenant, key_id))
    caller.resources.keys.forget()


def rotate(caller: Caller, key_id: str, request: KeyRotate) -> Key:
    """Make a key like this one and let this one end after the grace; raises NotFound, Conflict when it has ended."""
    with caller.resources.database.transaction() as tx:
        row = records.get(tx, keys, caller.tenant, key_id)
        clock = records.clock(tx)
        if row["revoked_at"] is not None or (row["expires_at"] is not None and row["expires_at"] <= clock):
            msg = "The key has ended already. Make a new one."
            raise Conflict(msg)
        lifetime_s = None if row["expires_at"] is None else max(1, int(row["expires_at"] - row["created_at"]))
        same = KeyCreate(name=row["document"]["name"], scopes=row["document"]["scopes"], expires_in_s=lifetime_s)
        store.expire(tx, row, request.grace_s)
        made = _add(tx, caller, same)
    caller.resources.keys.forget()
    return made


def remembered(resources: Resources, given: str) -> Known | None:
    """Return whom the key stands for, if this process has looked lately; asks no database."""
    return resources.keys.get(_digest(given)) if _KEY.fullmatch(given) else None


def look_up(resources: Resources, given: str) -> Known | None:
    """Return whom the key stands for, or None when it opens nothing."""
    if not _KEY.fullmatch(given):
        return None
    digest = _digest(given)
    with resources.database.reading() as tx:
        known = store.of_digest(tx, digest)
        unnoted = known is not None and known.id is not None and store.is_unnoted(tx, known.id)
    if known is None or known.id is None:
        return None
    if unnoted:
        with resources.database.transaction() as tx:
            store.note_use(tx, known.id)
    resources.keys.put(digest, known)
    return known


def key_of(row: records.Record) -> Key:
    """Return the contract of a row, without the key itself."""
    ends = {name: row[name] and timestamp(row[name]) for name in ("last_used_at", "expires_at", "revoked_at")}
    return Key(id=row["id"], **row["document"], created_at=timestamp(row["created_at"]), **ends)


def _add(tx: records.Transaction, caller: Caller, request: KeyCreate) -> Key:
    key, key_id = _MARK + "".join(secrets.choice(_LETTERS) for _ in range(_RANDOM_LETTERS)), new_id("key")
    document = {"name": request.name, "prefix": key[:_SHOWN], "scopes": sorted(set(request.scopes))}
    expires_at = None if request.expires_in_s is None else records.clock(tx) + request.expires_in_s
    columns = {"document": document, "sha256": _digest(key), "expires_at": expires_at}
    records.add(tx, keys, caller.tenant, key_id, columns)
    return key_of(records.get(tx, keys, caller.tenant, key_id)).model_copy(update={"key": key})


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
