import hashlib
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app.contracts.model import CheckState
from app.errors import ModelMalformed
from modelpress import Client, Columns, InvalidInput, InvalidRequest, NotFound, ServerUnreachable, Unauthorized, uploads
from tests.app.acting_worker import ActingWorker
from tests.modelpress.conftest import QUICK, CuttingProxy, Gateway, free_port, serving, wait_for


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x0a" + os.urandom(3_000_000))  # an ONNX file begins with its ir_version
    return path


def test_upload_when_sent_in_parts(client: Client, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 1_000_000)
    seen: list[int] = []
    upload = client.upload(model_file, lambda done, _all: seen.append(done))
    assert upload.complete
    assert upload.sha256 == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert seen == [1_000_000, 2_000_000, 3_000_000, 3_000_002]


def test_upload_when_connections_break(cutting: Callable[..., CuttingProxy], model_file: Path) -> None:
    proxy = cutting(500_000, 700_000, upstream=True)
    with Client(proxy.url, retry=QUICK) as client:
        upload = client.upload(model_file)
    assert upload.sha256 == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert proxy.connections >= 3


def test_upload_when_file_is_missing_or_empty(client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    for name in ("empty.onnx", "missing.onnx"):
        with pytest.raises(InvalidInput, match=name):
            client.upload(tmp_path / name)


def test_upload_model_when_accepted(client: Client, worker: ActingWorker, model_file: Path) -> None:
    made = client.upload_model(model_file, wait=False, name="mine")
    worker.accept_model(made.id)
    assert made.state is CheckState.CHECKING
    assert client.model(made.id).state is CheckState.READY
    assert made.id in {model.id for model in client.models()}


def test_upload_model_when_rejected_while_waiting(
    client: Client, worker: ActingWorker, gateway: Gateway, model_file: Path
) -> None:
    known = {model.id for model in client.models()}

    def reject() -> None:
        with Client(gateway.url) as other:
            fresh: list[str] = []
            wait_for(lambda: fresh.extend(model.id for model in other.models() if model.id not in known) or fresh)
            worker.reject(fresh[0], ModelMalformed("The file ends too early."))

    threading.Thread(target=reject).start()
    with pytest.raises(InvalidRequest) as refusal:
        client.upload_model(model_file)
    assert refusal.value.problem.name == "model-malformed"
    assert refusal.value.problem.cure


def test_upload_model_when_format_is_unknown(client: Client, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"model\.pt"):
        client.upload_model(tmp_path / "model.pt")


def test_upload_model_when_a_zip_holds_an_onnx_file(client: Client, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("m.onnx", b"x")
    assert client.upload_model(tmp_path / "m.zip", wait=False).format == "onnx"


def test_upload_dataset_when_columns_are_named(client: Client, tmp_path: Path) -> None:
    (tmp_path / "mails.csv").write_text("body,spam\nhello,0\n")
    made = client.upload_dataset(tmp_path / "mails.csv", wait=False, max_length=32, columns=Columns(text="body"))
    assert (made.format, made.max_length, made.columns.text) == ("csv", 32, "body")


def test_model_when_unknown(client: Client) -> None:
    with pytest.raises(NotFound):
        client.model("mdl_" + "0" * 26)


def test_client_when_nobody_listens() -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(ServerUnreachable, match="no answer"):
        client.techniques()


def test_client_when_keys_are_on(tmp_path: Path) -> None:
    with serving(tmp_path, MODELPRESS_API_KEYS='{"right": "us"}') as gateway:
        with Client(gateway.url) as client, pytest.raises(Unauthorized):
            list(client.models())
        with Client(gateway.url, "right") as client:
            assert list(client.models()) == []
