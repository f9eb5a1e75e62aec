"""Sizes and times as people type them: `4MB`, `20m`."""

import re

import typer

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def size_bytes(text: str) -> int:
    """Read bytes, or kB, MB, GB in powers of 1000, or KiB, MiB, GiB; capitals do not matter."""
    return _read(text, _BYTES, "write bytes, or a number with kB, MB, GB, KiB, MiB or GiB, such as 4MB")


def seconds(text: str) -> int:
    """Read seconds, or a number with s, m, h or d."""
    return _read(text, _SECONDS, "write seconds, or a number with s, m, h or d, such as 20m")


def _read(text: str, units: dict[str, int], cure: str) -> int:
    found = _NUMBER.fullmatch(text.strip().lower())
    if found is None or found[2] not in units:
        msg = f"{text!r} is not understood; {cure}"
        raise typer.BadParameter(msg)
    return round(float(found[1]) * units[found[2]])
