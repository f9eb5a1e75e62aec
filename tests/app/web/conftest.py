"""A real gateway process, the worker played at the stores, and a real browser."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from app.resources import connect
from modelpress import Client
from tests.app.acting_worker import ActingWorker
from tests.modelpress.conftest import Gateway, serving

CHROMIUM = shutil.which("chromium")
_QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("web")) as found:
        yield found


@pytest.fixture
def rest(served: Gateway) -> Iterator[Client]:
    with Client(served.url) as made:
        yield made


@pytest.fixture
def worker(served: Gateway) -> Iterator[ActingWorker]:
    with connect(served.settings) as resources:
        yield ActingWorker(resources)


@pytest.fixture(scope="module")  # not longer: its event loop must be gone before a coroutine test runs
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET.split())
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Browser, served: Gateway) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a path; afterwards no page may have complained, nor loaded anything foreign."""
    complaints: list[str] = []
    pages: list[Page] = []

    def note_foreign(url: str) -> None:
        if not url.startswith((served.url, "blob:", "data:")):
            complaints.append(f"foreign request: {url}")

    def open_path(path: str, width: int = 1280, base: str = served.url) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
        if base == served.url:
            page.on("request", lambda request: note_foreign(request.url))
        page.goto(f"{base}{path}")
        pages.append(page)
        return page

    yield open_path
    for page in pages:
        page.close()
    assert complaints == []


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x0a" + bytes(20_000_000))
    return path
