"""What Schemathesis must be told to send our bodies; loaded by `tests/fuzz/api.py`."""

import json
import os
import uuid
from typing import Any

import requests
import schemathesis
from requests.auth import AuthBase

from app.signatures import signed_headers

SECRETS = "FUZZ_TRIGGER_SECRETS"  # the environment's variable with each trigger's secret by its id


@schemathesis.serializer("application/partial-upload")
def partial_upload(_ctx: schemathesis.SerializationContext, value: Any) -> dict[str, Any]:
    """Send a part of an upload as the bytes that it is."""
    plain = getattr(value, "data", value)  # binary values come wrapped
    return {"data": plain if isinstance(plain, bytes) else str(plain).encode(errors="surrogatepass")}


class Signed(AuthBase):
    """Signs a delivery with the secret of the trigger that it goes to, each under an id of its own."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        secrets = json.loads(os.environ[SECRETS])  # noqa: TID251 - handed over by `tests/fuzz/api.py`
        secret = secrets.get(str(request.url).rsplit("/", 1)[-1])
        if secret is not None:
            body = request.body or b""
            content = body if isinstance(body, bytes) else str(body).encode()
            request.headers.update(signed_headers(secret, uuid.uuid4().hex, content))
        return request


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Sign what goes to a hook, so that more than its refusals are seen."""
    if case.operation.path.startswith("/v1/hooks/"):
        kwargs["auth"] = Signed()
