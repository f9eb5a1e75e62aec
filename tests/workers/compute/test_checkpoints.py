"""A job that is broken off and goes on from its checkpoint ends with the files of one that ran through."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.contracts.report import Report
from app.contracts.tasks import MESSAGE, Done, Failed, Kept, Log
from tests.workers.compute.orders import ROOT, compress, digits_npz, mlp, narrow
from workers.compute import checkpoints, tensor_files
from workers.compute.__main__ import perform
from workers.compute.channel import Channel

EVERY = 1e-9  # seconds: after each batch and each step
SEEDED = random.Random(26112026)


pytestmark = pytest.mark.timeout(600)  # each test does whole jobs, also on a busy machine


class Killed(BaseException):
    """Stands for the end of the process."""


class Mortal(io.StringIO):
    """A pipe whose writer dies after it has told of so many checkpoints."""

    def __init__(self, after: int | None) -> None:
        super().__init__()
        self.left = after

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.left is not None and '"say":"kept"' in text:
            self.left -= 1
            if self.left == 0:
                raise Killed
        return written

    def messages(self) -> list[Any]:
        return [MESSAGE.validate_json(line) for line in self.getvalue().splitlines()]


def prepared(folder: Path, order: dict[str, object]) -> Path:
    folder.mkdir()
    mlp(folder / "model.onnx")
    narrow(folder / "narrow.onnx")
    digits_npz(folder / "digits.npz")
    (folder / "order.json").write_text(json.dumps(order))
    return folder


def run(folder: Path, order: dict[str, object], after: int | None = None) -> tuple[Mortal, Done | Failed | None]:
    """Do an order; return what was said, and the last message unless it died after so many checkpoints."""
    pipe, last = Mortal(after), None
    with suppress(Killed):
        last = perform(prepared(folder, order), Channel(pipe))
    return pipe, last


def resumed(folder: Path, before: Path, order: dict[str, object], after: int | None = None) -> tuple[Mortal, Any]:
    """Go on in a fresh folder from the one checkpoint that the killed process left."""
    (left,) = (before / "out").glob("checkpoint-*")
    prepared(folder, order | {"checkpoint": "kept"})
    shutil.copy(left, folder / "kept")
    pipe, last = Mortal(after), None
    with suppress(Killed):
        last = perform(folder, Channel(pipe))
    return pipe, last


def without_clocks(report: Report) -> dict[str, Any]:
    """Return what a report says of the result, less what was timed."""
    found = report.model_dump(exclude={"duration_s", "before", "after", "changes", "verdict", "notes", "tensors"})
    for step in [*found["steps"], *(step for control in found["controls"] for step in control["steps"])]:
        step["duration_s"] = step["measurement"]["latency"] = None
    for control in found["controls"]:
        control["duration_s"] = None
    return found


def logs(pipe: Mortal) -> list[str]:
    return [said.message for said in pipe.messages() if isinstance(said, Log)]


RETRAIN = {"technique": "retrain", "epochs": 1, "learning_rate": 0.003}
RECIPES: dict[str, dict[str, Any]] = {
    "gradual pruning, then shared values": {
        "steps": [
            {"technique": "prune_weights", "sparsity": 0.7, "schedule": "cubic", "epochs": 1},
            {"technique": "share_weights", "clusters": 8, "min_size": 64, "epochs": 0.5},
        ]
    },
    "ternary, then 8-bit integers, with controls": {
        "steps": [
            {"technique": "ternarize", "min_size": 64, "epochs": 1},
            {"technique": "quantize_int8", "mode": "qat", "epochs": 0.5},
        ],
        "controls": ["without_retraining", "without_teacher"],
    },
    "rounds with rewinding, then an assistant": {
        "steps": [
            {
                "technique": "prune_weights",
                "sparsity": 0.7,
                "schedule": "iterative",
                "rewind": "weights",
                "rounds": 2,
                "epochs": 1,
            },
            {"technique": "prune_neurons", "ratio": 0.5, "epochs": 0},
            {"technique": "distill", "assistant": True, "epochs": 6, "patience": 1, "learning_rate": 0.02},
        ]
    },
    "binary in two halves, movement, 4 bits": {
        "steps": [
            {"technique": "binarize", "min_size": 1024, "epochs": 1},
            {"technique": "prune_weights", "sparsity": 0.6, "importance": "movement", "epochs": 1},
            {"technique": "quantize_int4", "min_size": 64, "epochs": 0.5},
            RETRAIN,
        ]
    },
}


@pytest.fixture(autouse=True)
def lavish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checkpoints take as much time as they want."""
    monkeypatch.setattr(checkpoints, "_SPARING", 0)


@pytest.mark.parametrize("name", RECIPES)
def test_result_is_the_same_when_the_process_was_killed_again_and_again(name: str, tmp_path: Path) -> None:
    order = compress() | {"recipe": RECIPES[name]}
    _, undisturbed = run(tmp_path / "undisturbed", order)
    assert isinstance(undisturbed, Done), undisturbed

    order |= {"checkpoint_every_s": EVERY}
    before, folder = None, tmp_path / "0"
    pipe, last = run(folder, order, SEEDED.randint(1, 10))  # every recipe leaves more than ten
    for attempt in range(1, 20):
        if last is not None:
            break
        before, folder = folder, tmp_path / f"{attempt}"
        pipe, last = resumed(folder, before, order, SEEDED.randint(1, 120))
        assert logs(pipe)[0].startswith("resumed from ")

    assert before is not None
    assert isinstance(last, Done), last
    assert last.report.digests == undisturbed.report.digests
    assert without_clocks(last.report) == without_clocks(undisturbed.report)


def left_by(folder: Path, order: dict[str, object], after: int) -> Path:
    """Run an order until it has left so many checkpoints; return the last one."""
    _, last = run(folder, order, after)
    assert last is None
    (left,) = (folder / "out").glob("checkpoint-*")
    return left


@pytest.fixture(scope="module")
def order() -> dict[str, object]:
    return compress(RETRAIN) | {"checkpoint_every_s": EVERY}


def test_process_tells_where_it_goes_on(order: dict[str, object], tmp_path: Path) -> None:
    left_by(tmp_path / "first", order, 10)
    pipe, last = resumed(tmp_path / "second", tmp_path / "first", order)
    assert isinstance(last, Done)
    assert logs(pipe)[0] == "resumed from step 1 of 1 (retrain), epoch 0.2 of 1"
    kept = [said.position for said in pipe.messages() if isinstance(said, Kept)]
    assert kept[0].epoch == pytest.approx(11 / 40)
    assert kept[-1].epoch is None


def test_what_took_long_before_counts_in_the_report(order: dict[str, object], tmp_path: Path) -> None:
    left = left_by(tmp_path / "first", order, 10)
    contents = tensor_files.Contents.open(left)
    arrays = contents.arrays("")
    longer = {what: spent + 1_000 for what, spent in contents.facts["spent"].items()}
    tensor_files.write(left, {**contents.facts, "spent": longer}, arrays, {})
    _, last = resumed(tmp_path / "second", tmp_path / "first", order)
    assert isinstance(last, Done)
    assert last.report is not None
    assert last.report.duration_s > 1_000
    assert last.report.steps[0].duration_s > 1_000


@pytest.mark.parametrize("damage", ["cut short", "no file of ours", "of another job"])
def test_work_starts_from_the_beginning_when_the_checkpoint_is_of_no_use(
    damage: str, order: dict[str, object], tmp_path: Path
) -> None:
    left = left_by(tmp_path / "first", order | ({"seed": 1} if damage == "of another job" else {}), 3)
    if damage == "cut short":
        left.write_bytes(left.read_bytes()[:-100])
    elif damage == "no file of ours":
        left.write_bytes(b"\xff" * 100)
    pipe, last = resumed(tmp_path / "second", tmp_path / "first", order)
    assert isinstance(last, Done)
    assert logs(pipe)[0].startswith("the checkpoint cannot be read (")
    assert logs(pipe)[0].endswith(": the work starts from the beginning")


def test_work_goes_on_when_there_is_no_room_for_a_checkpoint(
    order: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write", full)
    pipe, last = run(tmp_path / "first", order)
    assert isinstance(last, Done)
    assert "no checkpoint could be kept (No space left on device); the work goes on" in logs(pipe)


def test_nothing_is_kept_of_what_is_soon_done_again(tmp_path: Path) -> None:
    pipe, last = run(tmp_path / "first", compress(RETRAIN) | {"checkpoint_every_s": 60.0})
    assert isinstance(last, Done)
    assert not [said for said in pipe.messages() if isinstance(said, Kept)]


def test_child_leaves_a_checkpoint_when_it_is_told_to_stop(tmp_path: Path) -> None:
    endless = compress({"technique": "retrain", "epochs": 1000, "learning_rate": 1e-4, "patience": 100})
    folder = prepared(tmp_path / "child", endless | {"checkpoint_every_s": 3600})
    (folder / "tmp").mkdir()
    command = [sys.executable, "-P", "-m", "workers.compute", str(folder)]
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if '"point":{' in line:
                child.send_signal(signal.SIGTERM)
                break
        said = [MESSAGE.validate_json(line) for line in child.stdout]
    assert child.returncode == -signal.SIGTERM
    (kept,) = [message for message in said if isinstance(message, Kept)]
    assert (folder / "out" / kept.file).exists()
