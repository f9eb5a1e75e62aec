"""Every store test runs on SQLite and, where its server is installed, on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app.stores import migrate
from app.stores.database import Database
from app.stores.tables import metadata
from tests.stand_in import postgresql


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    with postgresql.serving() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'modelpress.db'}"


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def migrated(request: pytest.FixtureRequest) -> Iterator[Database]:
    database = Database(request.getfixturevalue(f"{request.param}_url"))
    migrate.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def database(migrated: Database) -> Database:
    with migrated.transaction() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(table.delete())
    return migrated


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def sql(database: Database, statement: str) -> None:
    with database.transaction() as tx:
        tx.execute(text(statement))
