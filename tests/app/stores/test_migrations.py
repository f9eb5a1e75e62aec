from pathlib import Path

from app.stores import migrate
from app.stores.database import Database


def test_the_migrations_make_exactly_the_schema_of_the_tables(migrated: Database) -> None:
    assert migrate.drift(migrated) == []
    assert migrate.current(migrated) == migrate.newest()


def test_upgrade_changes_nothing_when_run_twice(migrated: Database) -> None:
    assert migrate.upgrade(migrated) == migrate.upgrade(migrated)


def test_an_empty_database_has_no_version(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    assert migrate.current(database) is None
    database.close()
