"""The command against a gateway of its own; a thread plays the worker."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import Result

from app.contracts.job import JobState
from app.contracts.tasks import WorkKind
from app.errors import BadInput, GuardNotMet, ModelMalformed, RuntimeCrashed
from app.problems import problem_of
from app.resources import connect
from app.stores.tables import work
from modelpress import Client
from tests.app.acting_worker import ActingWorker
from tests.modelpress.conftest import Gateway, free_port, wait_for
from tests.modelpress.publishing import VERDICT, publish, refuse, say, train

CONTENT = os.urandom(50_000)


@dataclass
class Shift:
    """One worker at work: `refusals` by kind of work, `stuck` leaves jobs running until a cancel."""

    worker: ActingWorker
    client: Client
    refusals: dict[WorkKind, BadInput | RuntimeCrashed] = field(default_factory=dict)
    stuck: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(0.05):
            with self.worker.resources.database.reading() as tx:
                queued = tx.execute(select(work.c.id, work.c.kind).where(work.c.state == JobState.QUEUED)).all()
            for work_id, kind in queued:
                self.do(work_id, WorkKind(kind))

    def do(self, work_id: str, kind: WorkKind) -> None:
        if kind is WorkKind.COMPRESS:
            self.compress(work_id)
        elif kind in self.refusals:
            self.worker.reject(work_id, self.refusals[kind])
        elif kind is WorkKind.CHECK_MODEL:
            self.worker.accept_model(work_id)
        else:
            self.worker.accept_dataset(work_id)

    def compress(self, job_id: str) -> None:
        held = self.worker.claim(job_id)
        train(self.worker, held, "distill", 3)
        if self.stuck:
            wait_for(lambda: self.client.job(job_id).state is JobState.CANCELLING)
            self.worker.end(held, JobState.CANCELLED)
            return
        error = self.refusals.get(WorkKind.COMPRESS)
        if error is None:
            say(self.worker, held, kind="log", stage="distill", message="kept layers 0 and 5")
            publish(self.worker, self.client.job(job_id), held, CONTENT)
            return
        problem = problem_of(error)
        if isinstance(error, GuardNotMet):
            refuse(self.worker, self.client.job(job_id), held, problem)
            return
        self.worker.end(held, JobState.FAILED, problem)


@pytest.fixture
def shift(own_gateway: Gateway) -> Iterator[Shift]:
    with connect(own_gateway.settings) as resources, Client(own_gateway.url) as client:
        made = Shift(ActingWorker(resources), client)
        thread = threading.Thread(target=made.run)
        thread.start()
        yield made
        made.over.set()
        thread.join()


def test_compress_when_it_succeeds(run: Callable[..., Result], shift: Shift, tmp_path: Path) -> None:
    found = run(
        "compress", "m.onnx", "--data", "d.npz", "--step", "prune_layers:keep=2", "--step", "distill", "--dense"
    )
    assert found.exit_code == 0, found.output
    assert VERDICT in found.stdout
    assert "file size" in found.stdout
    assert "7.80×" in found.stdout
    assert "3.10× (3.00 to 3.20)" in found.stdout
    assert "1,000 test rows" in found.stdout
    assert "without teacher" in found.stdout
    assert "+3.60 pts (+2.20 to +5.00)" in found.stdout
    assert "kept layers 0 and 5" in found.stderr
    assert (tmp_path / "out" / "model.onnx").read_bytes() == CONTENT
    assert (tmp_path / "out" / "dense.onnx").read_bytes() == CONTENT * 2
    assert VERDICT in (tmp_path / "out" / "report.md").read_text()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["verdict"] == VERDICT


def test_compress_when_the_recipe_has_options_of_its_own(run: Callable[..., Result], shift: Shift) -> None:
    controls = ("--control", "without-teacher", "--control", "without-retraining")
    found = run("compress", "m.onnx", "--data", "d.npz", "--step", "ternarize", *controls, "--max-load-ms", "25")

    assert found.exit_code == 0, found.output
    recipe = next(shift.client.jobs()).recipe
    assert recipe.controls == ["without_teacher", "without_retraining"]
    assert recipe.max_load_ms == 25


def test_compress_when_a_control_would_show_nothing(run: Callable[..., Result], shift: Shift) -> None:
    found = run("compress", "m.onnx", "--step", "quantize_int8", "--control", "without-retraining")

    assert found.exit_code == 2
    assert "no step trains" in found.stderr


def test_pack_when_it_succeeds(run: Callable[..., Result], shift: Shift, tmp_path: Path) -> None:
    found = run("pack", "m.onnx", "-o", "small/packed.onnx", "--max-load-ms", "80")

    assert found.exit_code == 0, found.output
    assert "encoder.layer.5.attention.self.query.weight" in found.stdout
    assert "codebook" in found.stdout
    assert "590 kB" in found.stdout
    assert "73.8 kB" in found.stdout
    assert VERDICT in found.stdout
    assert (tmp_path / "small" / "packed.onnx").read_bytes() == CONTENT
    job = next(shift.client.jobs())
    assert job.recipe.steps == []
    assert job.recipe.max_load_ms == 80
    assert "pack" in run("jobs").stdout


def test_pack_when_machines_read_it(run: Callable[..., Result], shift: Shift) -> None:
    told = json.loads(run("pack", "m.onnx", "--json").stdout)

    assert Path(told["file"]).read_bytes() == CONTENT
    assert told["report"]["tensors"][0]["encoding"] == "codebook"


def test_pack_when_the_job_fails(run: Callable[..., Result], shift: Shift, tmp_path: Path) -> None:
    shift.refusals[WorkKind.COMPRESS] = RuntimeCrashed()

    found = run("pack", "m.onnx")

    assert found.exit_code == 1
    assert "runtime-crashed" in found.stderr
    assert not (tmp_path / "packed.onnx").exists()


def test_compress_when_machines_read_it(run: Callable[..., Result], shift: Shift, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('[{"technique": "quantize_int8"}]')
    found = run("compress", "m.onnx", "--recipe", "recipe.json", "--json", "-o", "elsewhere")
    told = json.loads(found.stdout)
    assert told["job"]["state"] == "succeeded"
    assert Path(told["files"]["model.onnx"]).read_bytes() == CONTENT


def test_compress_when_given_a_folder(run: Callable[..., Result], shift: Shift, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"w")
    assert run("compress", "bert", "--step", "quantize_int8").exit_code == 0
    assert next(shift.client.models()).format == "huggingface"


@pytest.mark.parametrize(
    ("kind", "error", "code", "said"),
    [
        (WorkKind.CHECK_MODEL, ModelMalformed("The file ends too early."), 5, "cure:"),
        (WorkKind.COMPRESS, GuardNotMet("accuracy fell by 0.04"), 4, "accuracy fell by 0.04"),
        (WorkKind.COMPRESS, RuntimeCrashed(), 1, "runtime-crashed"),
    ],
)
def test_compress_when_refused(
    run: Callable[..., Result], shift: Shift, kind: WorkKind, error: BadInput, code: int, said: str
) -> None:
    shift.refusals[kind] = error
    found = run("compress", "m.onnx", "--data", "d.npz", "--step", "distill", "--max-drop", "0.01")
    assert found.exit_code == code
    assert said in found.stderr
    assert Path("out/report.json").exists() == (code == 4)
    assert ("repair: Leave out `head.weight`." in found.stdout) == (code == 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("m.onnx", "--step", "prune_layers:kep=2"), "did you mean 'keep'"),
        (("m.onnx", "--step", "distil"), "did you mean 'distill'"),
        (("m.onnx",), "--recipe FILE"),
        (("missing.onnx", "--step", "distill"), "missing.onnx does not exist"),
        (("m.onnx", "--step", "distill", "--data", "m.onnx"), ".parquet"),
    ],
)
def test_compress_when_used_wrongly(
    run: Callable[..., Result], shift: Shift, arguments: tuple[str, ...], said: str
) -> None:
    found = run("compress", *arguments)
    assert (found.exit_code, said in found.stderr) == (2, True), found.stderr


def test_compress_when_no_server_answers(run: Callable[..., Result]) -> None:
    found = run("compress", "m.onnx", "--step", "quantize_int8", "--server", f"http://127.0.0.1:{free_port()}")
    assert found.exit_code == 3
    assert "modelpress up" in found.stderr


def test_compress_when_interrupted(run: Callable[..., Result], shift: Shift, own_gateway: Gateway) -> None:
    shift.stuck = True
    command = [sys.executable, "-m", "modelpress.cli.main", "compress", "m.onnx", "--step", "quantize_int8"]
    process = subprocess.Popen([*command, "--server", own_gateway.url], stderr=subprocess.PIPE)
    known = {job.id for job in shift.client.jobs()}
    wait_for(lambda: [job for job in shift.client.jobs() if job.id not in known and job.progress])
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"cancelling job_" in said


def test_commands_when_a_job_has_ended(run: Callable[..., Result], shift: Shift, tmp_path: Path) -> None:
    run("compress", "m.onnx", "--data", "d.npz", "--step", "distill", "--json")
    job = json.loads(run("jobs", "--json", "--limit", "1").stdout)[0]
    assert job["id"] in run("jobs").stdout
    assert VERDICT in run("show", job["id"]).stdout
    assert VERDICT in run("report", job["id"]).stdout
    assert json.loads(run("report", job["id"], "--format", "json").stdout)["verdict"] == VERDICT
    assert run("cancel", job["id"]).exit_code == 5
    assert run("resume", job["id"]).exit_code == 5
    assert run("download", job["artifact"], "-o", "copy.onnx", "--json").exit_code == 0
    assert Path("copy.onnx").read_bytes() == CONTENT
    assert "m.onnx" in run("models").stdout
    assert "d.npz" in run("datasets").stdout


def test_show_when_unknown(run: Callable[..., Result]) -> None:
    found = run("show", "job_" + "0" * 26)
    assert (found.exit_code, "not-found" in found.stderr) == (5, True)


def test_techniques_when_listed_and_named(run: Callable[..., Result]) -> None:
    assert "share_weights" in run("techniques").stdout
    assert "one of damage, spread, first, last" in run("techniques", "prune_layers").stdout
    assert run("techniques", "nothing").exit_code == 2


def test_keys_are_made_listed_rotated_and_revoked(run: Callable[..., Result]) -> None:
    made = run("keys", "create", "pipeline", "--scope", "read", "--days", "30")
    assert made.stdout.startswith("mp_")
    (listed,) = json.loads(run("keys", "list", "--json").stdout)
    assert (listed["name"], listed["scopes"], listed["key"]) == ("pipeline", ["read"], None)
    assert made.stdout.startswith(listed["prefix"])

    rotated = json.loads(run("keys", "rotate", listed["id"], "--grace-hours", "0", "--json").stdout)
    assert run("keys", "revoke", rotated["id"]).exit_code == 0

    table = run("keys", "list").stdout
    assert "revoked" in table
    assert made.stdout.strip() not in table
    assert run("keys", "revoke", "key_nonsense").exit_code == 5


def test_triggers_are_made_listed_shown_and_deleted(run: Callable[..., Result], shift: Shift) -> None:
    made = run(
        *("triggers", "create", "nightly", "--cron", "0 3 * * MON-FRI", "--timezone", "Europe/Berlin"),
        *("--model", "m.onnx", "--step", "share_weights:clusters=16"),
    )
    hooked = run(
        *("triggers", "create", "registry", "--kind", "cloudevents", "--step", "share_weights", "--json"),
        *("--match", "event=a", "--match", "event=b", "--match", "source=/registry"),
    )

    assert made.exit_code == hooked.exit_code == 0, made.output + hooked.output
    trigger_id = made.stdout.split()[0]
    told = json.loads(hooked.stdout)
    assert told["match"] == {
        "events": ["a", "b"], "name": None, "alias": None, "source": "/registry", "subject": None, "tag": None
    }  # fmt: skip
    assert told["secret"].startswith("whsec_")
    listed = run("triggers", "list").stdout
    assert trigger_id in listed
    assert told["id"] in listed
    shown = run("triggers", "show", trigger_id).stdout
    assert "0 3 * * MON-FRI in Europe/Berlin" in shown
    assert told["secret"] not in run("triggers", "show", told["id"]).stdout
    for each in (trigger_id, told["id"]):
        assert run("triggers", "delete", each).exit_code == 0
    assert run("triggers", "show", trigger_id).exit_code != 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--step", "share_weights", "--match", "colour=red"], "event, name, alias, source, subject or tag"),
        (["--step", "share_weights", "--match", "tag=stage"], "tag=KEY=VALUE"),
        (["--step", "share_weights", "--cron", "0 3 * *", "--model", "m.onnx"], "five fields"),
        (["--step", "share_weights", "--timezone", "Europe/Berlin"], "--cron"),
        ([], "--step"),
        (["--step", "share_weights", "--goal", "g.json"], "one of"),
    ],
)
def test_triggers_when_used_wrongly(run: Callable[..., Result], shift: Shift, arguments: list[str], said: str) -> None:
    refused = run("triggers", "create", "nightly", *arguments)

    assert refused.exit_code != 0
    assert said in refused.output
