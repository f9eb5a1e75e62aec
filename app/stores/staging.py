"""Uploads on their way. A segment is one unbroken run of an upload's bytes that this process has seen pass.

On local disk a segment is one growing file, so that an upload without a break is never copied: it gets its final name
where it lies. A segment belongs to one request at a time, so no two writers meet in a file. Knows no records.
"""

import hashlib
import os
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

_MOST = 1_024  # segments remembered; one that is forgotten costs a copy at the end, no bytes


def part_address(upload_id: str, offset: int) -> str:
    """Return a fresh key for the part of an upload that starts at `offset`; a retried part never meets its elder."""
    return f"uploads/{upload_id}/{offset}-{secrets.token_hex(4)}"


@dataclass
class Segment:
    """Where it starts in the upload, how many bytes it has, their running SHA-256, and the key last written to."""

    upload_id: str
    start: int
    size_bytes: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    key: str = ""

    @property
    def reached(self) -> int:
        """Where in the upload its next byte belongs."""
        return self.start + self.size_bytes


class Segments:
    """The segments that may go on. For one event loop; a segment is out while a request writes to it."""

    def __init__(self) -> None:
        """Remember none yet."""
        self._resting: OrderedDict[str, Segment] = OrderedDict()

    def take(self, upload_id: str, offset: int) -> Segment:
        """Return the segment that has come to `offset`, or a fresh one that starts there."""
        resting = self._resting.pop(upload_id, None)
        if resting is not None and resting.reached == offset:
            return resting
        return Segment(upload_id, offset)

    def rest(self, segment: Segment) -> None:
        """Let the next part go on with the segment, all of whose bytes are recorded."""
        self._resting[segment.upload_id] = segment
        self._resting.move_to_end(segment.upload_id)
        if len(self._resting) > _MOST:
            self._resting.popitem(last=False)


class Appender:
    """Adds to the end of one file on local disk; `abandon` leaves it as it was. Raises OSError."""

    def __init__(self, path: Path, size_bytes: int, digests: "tuple[hashlib._Hash, ...]") -> None:
        """Open the file, which must have `size_bytes`; a fresh one is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._before, self._digests = path, size_bytes, digests
        self._file = path.open("ab" if not size_bytes else "r+b", buffering=0)
        self._file.seek(0, os.SEEK_END)
        self.size_bytes = 0
        if self._file.tell() != size_bytes:
            self._file.close()
            raise FileNotFoundError(path)

    def write(self, chunk: bytes) -> None:
        """Write all of the chunk and hash it."""
        left = memoryview(chunk)
        while left:
            left = left[self._file.write(left) :]
        for digest in self._digests:
            digest.update(chunk)
        self.size_bytes += len(chunk)

    def close(self) -> None:
        """Stop writing; `size_bytes` is how many bytes were added."""
        self._file.close()

    def abandon(self) -> None:
        """Take back what was added."""
        self._file.truncate(self._before)
        self._file.close()
        if not self._before:
            self._path.unlink(missing_ok=True)
