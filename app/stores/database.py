"""The SQL database: one engine, transactions, the database's clock. SQLite (WAL) and PostgreSQL share every statement.

Knows no table's meaning; those live beside it.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Float, create_engine, event, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.errors import DependencyUnavailable

_BUSY_TIMEOUT_S = 10.0  # a writer waits this long for another one; ours hold the lock for milliseconds
_CONNECT_TIMEOUT_S = 3
_FILE = "modelpress.db"  # in the data folder
# A server that vanished without a word is noticed within half a minute, not within the kernel's two hours.
_POSTGRESQL = {
    "connect_timeout": _CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
}
# Our transactions take milliseconds. One whose process was stopped in the middle must not hold its rows for ever.
_PATIENCE = ("idle_in_transaction_session_timeout = '20s'", "lock_timeout = '10s'")


class now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """Unix seconds by the database's clock, so that leases do not depend on any worker's clock."""

    type = Float()
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite_now(_element: now, _compiler: SQLCompiler, **_kw: object) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"  # 2440587.5: the Julian day of the Unix epoch


@compiles(now)
def _now(_element: now, _compiler: SQLCompiler, **_kw: object) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


class Database:
    """Hands out transactions; made once per process by `app.resources.connect`."""

    def __init__(self, url: str) -> None:
        """Open `sqlite:///…` or `postgresql://…`; nothing is contacted before the first transaction."""
        self.engine = _engine(url)
        # SQLite's writers poll for its lock, which starves some of them, and each holds a connection meanwhile, which
        # readers then lack. So those of one process wait here, and only one of them at a time for other processes.
        self._writing = threading.Semaphore() if self.engine.dialect.name == "sqlite" else None

    @property
    def local(self) -> bool:
        """Whether it is a file of this machine, so that a row is read in a fraction of a millisecond."""
        return self._writing is not None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection in one write transaction: committed at the end, rolled back on any error.

        Raises DependencyUnavailable when the database does not answer.
        """
        with _translated(), self._turn(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for reads only; it never waits for a writer."""
        with _translated(), self.engine.connect().execution_options(reads_only=True) as connection:
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread of this process writes, where the database has one writer at a time."""
        if self._writing is None:
            yield
            return
        if not self._writing.acquire(timeout=_BUSY_TIMEOUT_S):
            msg = "The database has been busy for too long."
            raise DependencyUnavailable(msg, retry_after_s=5)
        try:
            yield
        finally:
            self._writing.release()

    def ping(self) -> bool:
        """Return whether the database answers."""
        try:
            with self.reading() as connection:
                connection.execute(text("SELECT 1"))
        except DependencyUnavailable:
            return False
        return True

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def default_url(data_dir: Path) -> str:
    """Return the address of the default database, a SQLite file in `data_dir`, which is made."""
    data_dir.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{data_dir.resolve() / _FILE}"


def missing_file(url: str, data_dir: Path) -> Path | None:
    """Return the file of a SQLite database that is not there and would be made by connecting, or None."""
    parsed = make_url(url) if url else None
    if parsed is not None and parsed.get_backend_name() != "sqlite":
        return None
    name = parsed.database if parsed else str(data_dir.absolute() / _FILE)
    file = Path(name) if name and name != ":memory:" else None
    return file if file is not None and not file.exists() else None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        msg = "The database does not answer."
        raise DependencyUnavailable(msg, retry_after_s=5) from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        msg = "The connection to the database was lost."
        raise DependencyUnavailable(msg, retry_after_s=5) from error


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        busy = {} if "timeout" in parsed.query else {"timeout": _BUSY_TIMEOUT_S}
        engine = create_engine(parsed, connect_args=busy)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = create_engine(parsed, pool_pre_ping=True, pool_size=10, pool_timeout=10, connect_args=_POSTGRESQL)
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions are opened by `_begin_sqlite`, not by the driver
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _prepare_postgresql(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own
    connection.autocommit = True  # outside of a transaction, whose rollback would undo it
    for setting in _PATIENCE:
        connection.execute(f"SET {setting}")
    connection.autocommit = False


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE takes the write lock first: a deferred transaction that read before it wrote fails as "locked".
    options: dict[str, Any] = dict(connection.get_execution_options())
    connection.exec_driver_sql("BEGIN" if options.get("reads_only") else "BEGIN IMMEDIATE")
