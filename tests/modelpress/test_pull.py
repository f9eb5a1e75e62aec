"""Places on the command line and in the client, against a real gateway; the pulling is played."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select
from typer.testing import Result

from app.contracts.job import JobState
from app.contracts.tasks import WorkKind
from app.errors import SourceRefused
from app.resources import connect
from app.stores import fetches
from app.stores.sinks import Stored
from app.stores.tables import work
from modelpress import Client
from modelpress.errors import InvalidInput, ProblemError
from modelpress.places import source_of
from tests.app.acting_worker import ActingWorker
from tests.modelpress.conftest import Gateway

MODEL, DATA = "https://example.com/deep/m.onnx?signature=x", "https://example.com/d.csv"


@contextmanager
def pulled(gateway: Gateway, refusal: SourceRefused | None = None) -> Iterator[None]:
    """Pull and check whatever waits."""
    over = threading.Event()

    def run() -> None:
        with connect(gateway.settings) as resources:
            worker = ActingWorker(resources)
            while not over.wait(0.05):
                with resources.database.reading() as tx:
                    queued = tx.execute(select(work.c.id, work.c.kind).where(work.c.state == JobState.QUEUED)).all()
                for work_id, kind in queued:
                    act(worker, work_id, kind)

    def act(worker: ActingWorker, work_id: str, kind: str) -> None:
        if kind == WorkKind.FETCH and refusal:
            worker.reject(work_id, refusal)
        elif kind == WorkKind.FETCH:
            held = worker.claim(work_id)
            with worker.resources.database.transaction() as tx:
                assert fetches.hand_on(tx, held, Stored("e" * 64, 7), {}, 60)
        elif work_id.startswith("mdl_"):
            worker.accept_model(work_id)
        else:
            worker.accept_dataset(work_id)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (MODEL, {"type": "https", "url": MODEL}),
        ("mlflow:digits/3", {"type": "mlflow", "server": "default", "name": "digits", "version": "3"}),
        ("mlflow:my digits@best_1", {"type": "mlflow", "name": "my digits", "alias": "best_1"}),
        ("mlflow://lab/digits@best", {"type": "mlflow", "server": "lab", "name": "digits", "alias": "best"}),
        ("s3://lab/deep/m.onnx", {"type": "s3", "store": "lab", "key": "deep/m.onnx"}),
    ],
)
def test_a_place_is_read(text: str, fields: dict[str, str]) -> None:
    assert fields.items() <= source_of(text).model_dump(mode="json").items()


@pytest.mark.parametrize(
    "text",
    ["s3://lab", "s3://lab/../m", "https://", "git://x/y", "", "mlflow:digits", "mlflow:digits/0", "mlflow:a/b@c"],
)
def test_what_is_no_place_is_refused_in_words(text: str) -> None:
    with pytest.raises(InvalidInput, match="source"):
        source_of(text)


def test_the_client_pulls_models_and_data(gateway: Gateway, client: Client) -> None:
    with pulled(gateway):
        model, dataset = client.pull_model(MODEL), client.pull_dataset(DATA)
    assert (model.name, model.state, model.origin.url) == ("m.onnx", "ready", "https://example.com/deep/m.onnx")
    assert (dataset.name, dataset.format, dataset.state) == ("d.csv", "csv", "ready")


def test_why_nothing_came_is_told(gateway: Gateway, client: Client) -> None:
    with pulled(gateway, SourceRefused("The source answers 404.")), pytest.raises(ProblemError, match="404"):
        client.pull_model(MODEL)


def test_the_command_pulls(own_gateway: Gateway, run: Callable[..., Result]) -> None:
    with pulled(own_gateway):
        found = run("pull", MODEL, "--sha256", "e" * 64)
        data = run("pull", DATA, "--dataset", "--label", "y", "--json")
    assert found.exit_code == 0, found.output
    assert "ready  m.onnx" in found.output
    assert '"label":"y"' in data.output
    assert "signature" not in found.output


def test_compress_takes_a_place(own_gateway: Gateway, run: Callable[..., Result]) -> None:
    with pulled(own_gateway, SourceRefused("The source answers 404.")):
        found = run("compress", MODEL, "--step", "quantize_fp16")
    assert found.exit_code != 0
    assert "404" in found.output
