"""What every contract has in common: strictness, ids, times, pages, digests."""

import secrets
import time
from typing import Annotated, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case
_TIME_DIGITS = 10  # 48 bits of milliseconds
_RANDOM_DIGITS = 16  # 80 random bits, as a ULID has


class Contract(BaseModel):
    """Unknown fields are refused; values do not change once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def new_id(prefix: str) -> str:
    """Return `<prefix>_<ULID>`: sorts by creation time (milliseconds), not guessable."""
    stamp, digits = time.time_ns() // 1_000_000, []
    for _ in range(_TIME_DIGITS):
        stamp, digit = divmod(stamp, 32)
        digits.append(_ALPHABET[digit])
    tail = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_DIGITS))
    return f"{prefix}_{''.join(reversed(digits))}{tail}"


def _id(prefix: str) -> StringConstraints:
    return StringConstraints(pattern=rf"^{prefix}_[0-9a-z]{{26}}$")


UploadId = Annotated[str, _id("upl")]
ModelId = Annotated[str, _id("mdl")]
DatasetId = Annotated[str, _id("dst")]
JobId = Annotated[str, _id("job")]
ArtifactId = Annotated[str, _id("art")]
BenchmarkId = Annotated[str, _id("bmk")]
TriggerId = Annotated[str, _id("trg")]
KeyId = Annotated[str, _id("key")]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
DisplayName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Tags = Annotated[dict[DisplayName, Annotated[str, StringConstraints(max_length=500)]], Field(max_length=32)]
Timestamp = AwareDatetime

Item = TypeVar("Item", bound=BaseModel)


class Page(Contract, Generic[Item]):
    """One page of a list; `next` is the `after` of the next page, or null at the end."""

    items: list[Item]
    next: str | None = None
