import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from app.errors import DependencyUnavailable
from app.stores.database import Database, default_url


def test_a_transaction_is_rolled_back_when_it_fails(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as tx:
        tx.execute(text("INSERT INTO hook_deliveries (trigger_id, delivery_id, at) VALUES ('t', 'd', 1)"))
        raise RuntimeError
    with database.reading() as tx:
        assert tx.execute(text("SELECT count(*) FROM hook_deliveries")).scalar_one() == 0


def test_reading_does_not_wait_for_a_writer(database: Database) -> None:
    with database.transaction(), database.reading() as tx:
        began = time.monotonic()
        tx.execute(text("SELECT count(*) FROM work"))
    assert time.monotonic() - began < 1


def test_writers_that_wait_leave_connections_to_readers(database: Database) -> None:
    threads = [threading.Thread(target=write, args=(database,)) for _ in range(40)]  # as many as the gateway has
    other = Database(database.engine.url.render_as_string(hide_password=False))
    with other.transaction():
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        began = time.monotonic()
        with database.reading() as tx:
            tx.execute(text("SELECT count(*) FROM work"))
        took_s = time.monotonic() - began
    for thread in threads:
        thread.join()
    other.close()
    assert took_s < 2


def write(database: Database) -> None:
    with database.transaction() as tx:
        tx.execute(text("UPDATE work SET owner = 'x' WHERE id = 'none'"))


def test_an_unreachable_database_is_named_as_unavailable() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    assert not database.ping()
    with pytest.raises(DependencyUnavailable), database.transaction():
        pass
    database.close()


def test_a_database_that_answers_is_pinged(database: Database) -> None:
    assert database.ping()


def test_the_default_address_makes_its_folder(tmp_path: Path) -> None:
    database = Database(default_url(tmp_path / "new"))
    assert database.ping()
    with database.reading() as tx:
        assert tx.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert tx.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    database.close()


def test_a_transaction_that_was_abandoned_lets_its_rows_go(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    with database.reading() as tx:
        idle, lock = (
            tx.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("idle_in_transaction_session_timeout", "lock_timeout")
        )
    database.close()
    assert (idle, lock) == ("20s", "10s")
