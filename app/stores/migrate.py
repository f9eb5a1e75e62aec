"""Brings the schema to the newest version: `python -m app.stores.migrate`. Safe to run twice or from two places."""

import sys
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.settings import Settings
from app.stores.database import Database, default_url
from app.stores.tables import metadata

_LOCK = 0x6D6F64656C  # "model" in ASCII: PostgreSQL's advisory lock while a migration runs


def upgrade(database: Database) -> str:
    """Migrate to the newest version and return it; a second process waits for the first.

    Raises DependencyUnavailable when the database does not answer.
    """
    with database.transaction() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        command.upgrade(_config(connection), "head")
    return newest()


def newest() -> str:
    """Return the newest version that this code knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def current(database: Database) -> str | None:
    """Return the version that the database has, or None when it is empty."""
    with database.reading() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def drift(database: Database) -> list[object]:
    """Return the differences between the migrated schema and `app.stores.tables`: none when complete."""
    with database.reading() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def main() -> int:
    """Migrate the database that the settings name."""
    settings = Settings()
    database = Database(settings.database_url or default_url(settings.data_dir))
    version = upgrade(database)
    database.close()
    sys.stdout.write(f"schema {version}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
