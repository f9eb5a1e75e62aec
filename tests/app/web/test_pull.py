"""The field for a place to pull from, in a real browser."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from app.contracts.job import JobState
from app.errors import SourceRefused
from app.stores import fetches, work
from app.stores.sinks import Stored
from modelpress import Client
from tests.app.acting_worker import ActingWorker
from tests.modelpress.conftest import wait_for

Opener = Callable[..., Page]


def asked(open_page: Opener, rest: Client, place: str) -> tuple[Page, str]:
    """Type a place into the page's field; return the page and the model that it asked for."""
    known = {model.id for model in rest.models()}
    page = open_page("/")
    page.locator("#model-picker").get_by_text("Pull it from elsewhere").click()
    field = page.get_by_label("Address to pull the model from")
    field.fill(place)
    field.press("Enter")
    wait_for(lambda: {model.id for model in rest.models()} - known)
    return page, ({model.id for model in rest.models()} - known).pop()


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("https://example.com/deep/m.onnx?signature=x", "m.onnx"),
        ("s3://lab/deep/m.onnx", "m.onnx"),
        ("mlflow:digits@candidate", "digits"),
        ("mlflow:digits/3", "digits"),
    ],
)
def test_start_when_a_model_is_pulled(
    open_page: Opener, rest: Client, worker: ActingWorker, place: str, name: str
) -> None:
    page, model_id = asked(open_page, rest, place)
    held = worker.claim(model_id)
    with worker.resources.database.transaction() as tx:
        work.progress(tx, held, {"stage": "fetching", "progress": 0.5}, [])
    expect(page.locator("#model-picker .chosen")).to_contain_text("pulling, 50")
    with worker.resources.database.transaction() as tx:
        assert fetches.hand_on(tx, held, Stored("e" * 64, 7), {}, 60)
    worker.accept_model(model_id)
    expect(page.locator("#model-picker .chosen")).to_contain_text("10 parameters")
    expect(page.locator("#model-picker .chosen")).to_contain_text(name)
    assert rest.model(model_id).origin.type == place.partition(":")[0]


def test_start_when_the_source_refuses(open_page: Opener, rest: Client, worker: ActingWorker) -> None:
    page, model_id = asked(open_page, rest, "https://example.com/m.onnx")
    worker.reject(model_id, SourceRefused("The source answers 404."))
    expect(page.locator("#model-picker .notice")).to_contain_text("The source answers 404.")
    assert rest.model(model_id).state == "rejected"
    with worker.resources.database.reading() as tx:
        row = work.read(tx, model_id)
    assert row is not None
    assert row.state == JobState.FAILED
