"""API keys: what one may do, and how long it holds. The key itself is shown once, when it is made."""

from typing import Annotated, Literal

from pydantic import Field

from app.contracts.base import Contract, DisplayName, KeyId, Timestamp

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
_YEARS_S = 10 * 366 * 86_400
_Scopes = Annotated[
    list[Scope],
    Field(min_length=1, max_length=len(SCOPES), description="read: look; write: make and change; admin: keys"),
]


class KeyCreate(Contract):
    """Make a key of the caller's own tenant. Each scope stands for itself: `admin` alone reads no job."""

    name: DisplayName
    scopes: _Scopes = ["read", "write"]
    expires_in_s: int | None = Field(None, ge=1, le=_YEARS_S, description="seconds; null: until it is revoked")


class KeyRotate(Contract):
    """Make the successor of a key."""

    grace_s: int = Field(86_400, ge=0, le=_YEARS_S, description="seconds for which the old key still opens")


class Key(Contract):
    """An API key. `key` is what a client sends, and is shown in the answer to its creation alone."""

    id: KeyId
    name: str
    prefix: str = Field(description="how the key begins, to recognise it by")
    scopes: list[Scope]
    key: str | None = None
    created_at: Timestamp
    last_used_at: Timestamp | None = Field(None, description="to the minute")
    expires_at: Timestamp | None = None
    revoked_at: Timestamp | None = None
