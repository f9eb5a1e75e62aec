"""Signs outgoing webhooks and verifies incoming ones. Knows no HTTP framework and no store.

Standard Webhooks (standardwebhooks.com) and MLflow sign the same string, `id.timestamp.body`, with HMAC-SHA256; they
differ in header names and in how the shared secret becomes a key.
"""

import base64
import binascii
import hashlib
import hmac
import secrets as random_secrets
import time
from collections.abc import Mapping, Sequence
from typing import Literal

from app.errors import SignatureInvalid

Scheme = Literal["standard", "mlflow"]

TOLERANCE_S = 300
_PREFIX = "whsec_"
_KEY_BYTES = 32
_MAX_ID_CHARS = 200  # the column that remembers deliveries
_HEADERS = {
    "standard": ("webhook-id", "webhook-timestamp", "webhook-signature"),
    "mlflow": ("x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"),
}


def new_secret() -> str:
    """Return a fresh secret in Standard Webhooks form, `whsec_<base64>`."""
    return _PREFIX + base64.b64encode(random_secrets.token_bytes(_KEY_BYTES)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes, scheme: Scheme = "standard") -> str:
    """Return `v1,<base64>` over `id.timestamp.body`; `timestamp` in Unix seconds.

    Raises SignatureInvalid when a `whsec_` secret is not base64.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret, scheme), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def signed_headers(secret: str, message_id: str, body: bytes, now: float | None = None) -> dict[str, str]:
    """Return the three Standard Webhooks headers of an outgoing message."""
    timestamp = int(time.time() if now is None else now)
    signature = sign(secret, message_id, timestamp, body)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    scheme: Scheme = "standard",
    now: float | None = None,
) -> str:
    """Return the delivery's id when one of the `secrets` signed these raw bytes at most 300 s ago or ahead.

    Several secrets allow rotation. Header names are looked up in lower case. Replays are the caller's to refuse, by
    the id. Raises SignatureInvalid.
    """
    known = {name.lower(): value for name, value in headers.items()}
    message_id, stamp, signatures = (known.get(name, "").strip() for name in _HEADERS[scheme])
    if not message_id or len(message_id) > _MAX_ID_CHARS or not signatures:
        raise SignatureInvalid(f"The headers {', '.join(_HEADERS[scheme])} are needed.")
    timestamp = _timestamp(stamp, time.time() if now is None else now)
    offered = [item.encode() for item in signatures.split()]
    expected = [sign(secret, message_id, timestamp, body, scheme).encode() for secret in secrets]
    matches = [hmac.compare_digest(one, other) for one in expected for other in offered]
    if not any(matches):
        raise SignatureInvalid
    return message_id


def _timestamp(stamp: str, now: float) -> int:
    # isdecimal alone would pass other scripts' digits, and a long run of digits would be slow to convert.
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= 12):  # noqa: PLR2004 - 12 digits reach the year 33658
        raise SignatureInvalid("The timestamp header must hold Unix seconds.")
    if abs(now - int(stamp)) > TOLERANCE_S:
        raise SignatureInvalid(f"The timestamp is more than {TOLERANCE_S} s away from this service's clock.")
    return int(stamp)


def _key(secret: str, scheme: Scheme) -> bytes:
    if scheme == "mlflow" or not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise SignatureInvalid("The trigger's secret is not whsec_ followed by base64.") from error
