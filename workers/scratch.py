"""The scratch folder of one attempt: made, locked, and removed whatever happens. Knows no job."""

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.errors import ServiceFault


@contextmanager
def attempt_folder(root: Path, name: str) -> Iterator[Path]:
    """Yield a fresh folder `<root>/<name>` with `in`, `out` and `tmp`; it is gone afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    folder, lock = root / name, root / f"{name}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        shutil.rmtree(folder, ignore_errors=True)
        for part in ("in", "out", "tmp"):
            (folder / part).mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def remove_leftovers(root: Path) -> int:
    """Remove the folders of attempts whose worker is dead, which its lock tells; return how many there were."""
    removed = 0
    for lock in root.glob("*.lock"):
        with lock.open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
            removed += 1
    return removed


@contextmanager
def made_by_child(folder: Path, name: str) -> Iterator[BinaryIO]:
    """Open `out/<name>` as the child left it: a plain file of its own, never a link to somebody else's.

    Raises ServiceFault when it is anything else, FileNotFoundError when it is missing.
    """
    plain = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    out = os.open(folder / "out", plain | os.O_DIRECTORY)
    try:
        descriptor = os.open(name, plain | os.O_NONBLOCK, dir_fd=out)
    finally:
        os.close(out)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise ServiceFault("The compute child left something that is not a plain file.")
        yield file


def has_made(folder: Path, name: str) -> bool:
    """Return whether the child left `out/<name>`."""
    return os.path.lexists(folder / "out" / name)
