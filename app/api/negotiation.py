"""Which of the offered media types a client wants most (RFC 9110, section 12.5.1), and one byte range (section 14)."""

import re
from collections.abc import Sequence

from app.errors import NotAcceptable, RangeNotSatisfiable

_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")


def chosen(accept: str | None, offered: Sequence[str]) -> str:
    """Return the best of `offered`, the first one when nothing is asked for; raises NotAcceptable."""
    if not accept:
        return offered[0]
    wanted = _weights(accept)
    best = max(offered, key=lambda kind: (_weight(kind, wanted), -offered.index(kind)))
    if _weight(best, wanted) <= 0:
        msg = f"This is available as {', '.join(offered)}."
        raise NotAcceptable(msg)
    return best


def accepts_coding(accept_encoding: str | None, coding: str) -> bool:
    """Return whether the client names this content coding with a weight above zero."""
    return _weights(accept_encoding or "").get(coding, 0) > 0


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return (start, end), end not included, of a single range; None when the whole is to be sent.

    Several ranges and other units are ignored, as they may be; raises RangeNotSatisfiable.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        msg = f"The content has {size} bytes."
        raise RangeNotSatisfiable(msg)
    return start, end


def _weights(header: str) -> dict[str, float]:
    weights = {}
    for item in header.split(","):
        name, _, parameters = item.partition(";")
        found = re.search(r"q=([0-9.]+)", parameters.replace(" ", ""))
        weights[name.strip().lower()] = _number(found[1]) if found else 1.0
    return weights


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _weight(kind: str, wanted: dict[str, float]) -> float:
    family = f"{kind.partition('/')[0]}/*"
    return next((wanted[name] for name in (kind, family, "*/*") if name in wanted), 0.0)
