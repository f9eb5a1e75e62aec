"""A gateway over real SQLite and in-memory blobs, without a broker: rows wait, as in an outage."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from fastapi import FastAPI

from app.main import create_app
from app.resources import Resources
from app.settings import Settings
from app.stores.database import Database
from app.stores.migrate import upgrade
from tests.app.acting_worker import ActingWorker
from tests.app.tenants import Tenants


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    structlog.configure(processors=[structlog.processors.JSONRenderer(default=str)])


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("schema") / "modelpress.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    database.close()
    return path


@pytest.fixture
def settings(tmp_path: Path, empty_database: Path) -> Settings:
    shutil.copy(empty_database, tmp_path / "modelpress.db")
    return Settings(data_dir=tmp_path, blob_url="memory:///")


@pytest.fixture
def gateway(settings: Settings) -> Iterator[FastAPI]:
    app = create_app(settings)
    with app.state.resources:
        yield app


@pytest.fixture
def tenants(gateway: FastAPI) -> Tenants:
    return Tenants.of(gateway)


@pytest.fixture
def resources(gateway: FastAPI) -> Resources:
    return gateway.state.resources


@pytest.fixture
async def client(gateway: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(gateway, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def worker(resources: Resources) -> ActingWorker:
    return ActingWorker(resources)
