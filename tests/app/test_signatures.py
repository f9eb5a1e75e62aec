import base64
import hashlib
import hmac

import pytest

from app.errors import SignatureInvalid
from app.signatures import new_secret, sign, signed_headers, verify

NOW = 1_700_000_000
BODY = b'{"a": 1}'


def mlflow_headers(secret: str, timestamp: int = NOW) -> dict[str, str]:
    digest = hmac.new(secret.encode(), f"d1.{timestamp}.".encode() + BODY, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"X-MLflow-Delivery-Id": "d1", "X-MLflow-Timestamp": str(timestamp), "X-MLflow-Signature": signature}


def test_the_published_example_of_standard_webhooks_verifies() -> None:
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == signature


def test_our_own_headers_verify() -> None:
    secret = new_secret()
    assert verify(signed_headers(secret, "evt_1", BODY, NOW), BODY, [secret], now=NOW) == "evt_1"


def test_an_mlflow_delivery_verifies_with_a_plain_secret() -> None:
    assert verify(mlflow_headers("plain"), BODY, ["plain"], "mlflow", now=NOW) == "d1"


def test_a_rotated_secret_verifies_beside_the_new_one() -> None:
    old, new = new_secret(), new_secret()
    headers = signed_headers(old, "evt_1", BODY, NOW)
    assert verify(headers, BODY, [new, old], now=NOW) == "evt_1"


@pytest.mark.parametrize("skew", [-300, 0, 300])
def test_a_clock_within_five_minutes_is_accepted(skew: int) -> None:
    secret = new_secret()
    assert verify(signed_headers(secret, "e", BODY, NOW + skew), BODY, [secret], now=NOW)


@pytest.mark.parametrize("skew", [-301, 301])
def test_a_clock_further_away_is_refused(skew: int) -> None:
    secret = new_secret()
    with pytest.raises(SignatureInvalid):
        verify(signed_headers(secret, "e", BODY, NOW + skew), BODY, [secret], now=NOW)


@pytest.mark.parametrize("body", [b'{"a": 2}', b"", BODY + b" "])
def test_a_changed_body_is_refused(body: bytes) -> None:
    secret = new_secret()
    with pytest.raises(SignatureInvalid):
        verify(signed_headers(secret, "e", BODY, NOW), body, [secret], now=NOW)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-signature", ""),
        ("webhook-signature", "v1"),
        ("webhook-signature", "no comma at all"),
        ("webhook-signature", "v1,%%%"),
        ("webhook-signature", "v1,\u00e9"),
        ("webhook-id", ""),
        ("webhook-id", "other"),
        ("webhook-id", "x" * 201),
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "soon"),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "1e9"),
        ("webhook-timestamp", "\u0661\u0662"),
        ("webhook-timestamp", "9" * 5_000),
    ],
)
def test_a_malformed_header_is_refused(name: str, value: str) -> None:
    secret = new_secret()
    headers = signed_headers(secret, "e", BODY, NOW) | {name: value}
    with pytest.raises(SignatureInvalid):
        verify(headers, BODY, [secret], now=NOW)


def test_a_secret_that_is_not_base64_is_refused() -> None:
    with pytest.raises(SignatureInvalid):
        sign("whsec_%%%", "e", NOW, BODY)
