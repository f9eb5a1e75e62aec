"""Every forbidden act is refused under its layer, and succeeds with that layer off: else the test proves nothing."""

import json
import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.stand_in.stack import HERE
from workers.child import Program, environment
from workers.sandbox import EXIT_UNCONFINED, Confinement

LAYERS = ("limits", "landlock", "seccomp")
REFUSED_BY = {
    "read canary": "landlock",
    "write outside": "landlock",
    "make link": "landlock",
    "sendto": "seccomp",
    "fork": "seccomp",
    "leave group": "seccomp",
    "outlive": "seccomp",
    "write much": "limits",
    "open many": "limits",
    "use memory": "limits",
}
PROGRAM = Program("forbidden_acts", (HERE,))


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def confinement(tmp_path: Path, *layers: str) -> Confinement:
    scratch = tmp_path / "scratch"
    (scratch / "tmp").mkdir(parents=True, exist_ok=True)
    sizes = {"memory_bytes": 1 << 30, "file_bytes": 1 << 20, "cpu_s": 20}
    return Confinement(str(scratch), os.getpid(), readable=(str(HERE),), layers=layers, **sizes)


def attempt(tmp_path: Path, layers: tuple[str, ...], acts: list[str], port: int = 1) -> tuple[str, dict[str, bool]]:
    canary = tmp_path / "canary"
    canary.write_text("secret")
    cage = confinement(tmp_path, *layers)
    order = {
        "acts": acts,
        "canary": str(canary),
        "outside": str(tmp_path / "out"),
        "scratch": cage.scratch,
        "port": port,
    }
    env = environment(Path(cage.scratch), 1, PROGRAM, gpu=False)
    command = cage.command(PROGRAM.module, json.dumps(order))
    done = subprocess.run(command, env=env, cwd=cage.scratch, capture_output=True, check=True, process_group=0)
    level, answer = done.stdout.splitlines()
    return json.loads(level)["sandbox"], json.loads(answer)


def test_every_forbidden_act_is_refused_when_fully_confined(tmp_path: Path, listener: int) -> None:
    acts = [*REFUSED_BY, "exec", "connect", "signal parent", "read parent's environment", "write scratch"]
    level, succeeded = attempt(tmp_path, LAYERS, acts, listener)
    assert level == "full"
    assert [act for act in acts if succeeded[act]] == ["write scratch"]


@pytest.mark.parametrize("layer", LAYERS)
def test_its_acts_succeed_when_a_layer_is_off(tmp_path: Path, listener: int, layer: str) -> None:
    acts = [act for act, by in REFUSED_BY.items() if by == layer]
    others = tuple(name for name in LAYERS if name != layer)
    _level, succeeded = attempt(tmp_path, others, acts, listener)
    assert succeeded == dict.fromkeys(acts, True)


def test_acts_of_two_layers_succeed_when_both_are_off(tmp_path: Path, listener: int) -> None:
    acts = ["exec", "connect", "signal parent", "read parent's environment"]
    level, succeeded = attempt(tmp_path, ("limits",), acts, listener)
    assert level == "none"
    assert succeeded == dict.fromkeys(acts, True)


@pytest.mark.parametrize("layer", ["landlock", "seccomp"])
def test_connect_and_exec_are_refused_by_either_layer_alone(tmp_path: Path, listener: int, layer: str) -> None:
    level, succeeded = attempt(tmp_path, (layer,), ["connect", "exec"], listener)
    assert (level, succeeded) == ("partial", {"connect": False, "exec": False})


def test_the_child_does_not_run_when_the_required_level_cannot_be_had(tmp_path: Path) -> None:
    cage = replace(confinement(tmp_path, "limits"), require="full")
    env = environment(Path(cage.scratch), 1, PROGRAM, gpu=False)
    command = cage.command(PROGRAM.module, "{}")
    done = subprocess.run(command, env=env, cwd=cage.scratch, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (EXIT_UNCONFINED, b'{"sandbox": "none"}\n')


def test_the_child_does_not_run_when_its_supervisor_is_gone(tmp_path: Path) -> None:
    cage = replace(confinement(tmp_path), parent=1)
    env = environment(Path(cage.scratch), 1, PROGRAM, gpu=False)
    done = subprocess.run(cage.command(PROGRAM.module, "{}"), env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (75, b"")


def test_the_environment_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    env = environment(tmp_path, 2, Program(), gpu=False)
    assert "secret" not in env.values()
    assert (env["OMP_NUM_THREADS"], env["PYTHONHASHSEED"], env["CUDA_VISIBLE_DEVICES"]) == ("2", "0", "")
