"""What Schemathesis must be told to send our bodies; loaded by `tests/fuzz/api.py`."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/partial-upload")
def partial_upload(_ctx: schemathesis.SerializationContext, value: Any) -> dict[str, Any]:
    """Send a part of an upload as the bytes that it is."""
    plain = getattr(value, "data", value)  # binary values come wrapped
    return {"data": plain if isinstance(plain, bytes) else str(plain).encode(errors="surrogatepass")}
