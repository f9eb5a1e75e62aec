"""Copies all blobs to another store, for a backup or back from one: `python -m app.stores.copying FROM TO`.

Both are addresses as `BLOB_URL` has them. What is there already is not sent again, so a second run takes what is new;
nothing is deleted. Knows no records.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.errors import ArtifactMissing
from app.stores.blobs import Blobs, address

_CONTENT = ("sha256", "zstd")  # what lies there never changes
_GROWING = "uploads"  # pieces of uploads that have not ended


@dataclass
class Copied:
    """How many objects were sent, how many were there already, and the keys whose bytes have another digest."""

    sent: int = 0
    sent_bytes: int = 0
    kept: int = 0
    damaged: list[str] = field(default_factory=list)


def copy(source: Blobs, target: Blobs) -> Copied:
    """Send every object that the target lacks; what is damaged is not kept there.

    Raises DependencyUnavailable and InsufficientStorage.
    """
    found = Copied()
    for key in _keys(source):
        size = source.size_at(key)
        if size is None:
            continue  # gone since it was listed: its upload has ended, or no record named it
        if not key.startswith(_GROWING) and target.size_at(key) == size:
            found.kept += 1
            continue
        try:
            sent = source.send(key, target)
        except ArtifactMissing:
            continue
        if key.startswith("sha256/") and key != address(sent.sha256):
            target.delete([key])
            found.damaged.append(key)
            continue
        found.sent += 1
        found.sent_bytes += sent.size_bytes
    return found


def _keys(source: Blobs) -> Iterator[str]:
    for prefix in (*_CONTENT, _GROWING):
        yield from [listed.key for listed in source.listed(prefix)]


def main(arguments: list[str] | None = None) -> int:
    """Copy, say what was done, and return 1 when something was damaged."""
    parser = argparse.ArgumentParser(prog="app.stores.copying", description=__doc__)
    parser.add_argument("source", help="address of the blobs, such as s3://bucket/blobs")
    parser.add_argument("target", help="address of their copy, such as file:///backup/blobs")
    options = parser.parse_args(arguments)
    found = copy(Blobs.open(options.source), Blobs.open(options.target))
    sys.stdout.write(f"{found.sent} blobs copied ({found.sent_bytes:,} bytes), {found.kept} were there\n")
    for key in found.damaged:
        sys.stderr.write(f"damaged, not copied: {key}\n")
    return 1 if found.damaged else 0


if __name__ == "__main__":
    sys.exit(main())
