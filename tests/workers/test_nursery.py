"""Children of the nursery: confined as any other, seen to their end, and gone with whoever holds them."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.stand_in import stack
from tests.workers.compute.orders import compress, digits_npz, mlp
from workers.child import Child, Program, Spawned, environment
from workers.nursery import CHECKING, COMPUTING, Forked, Nursery
from workers.sandbox import Confinement

PROGRAM = Program("stand_in_child", (stack.HERE,))


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    # Its children import what it can: the stand-ins must be on its own path.
    found = Nursery(environment(tmp_path, 1, PROGRAM, gpu=False), CHECKING)
    yield found
    found.close()


def scratch_for(folder: Path, script: object) -> Path:
    for part in ("in", "out", "tmp"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "in" / "upload").write_text(json.dumps(script))
    (folder / "order.json").write_text(json.dumps({"kind": "check_model", "path": "in/upload"}))
    return folder


def forked(nursery: Nursery, scratch: Path, module: str = PROGRAM.module) -> Child:
    cage = Confinement(str(scratch), 0, memory_bytes=1 << 30, cpu_s=20, file_bytes=1 << 20, readable=(str(stack.HERE),))
    process = nursery.fork(module, scratch, cage, environment(scratch, 1, PROGRAM, gpu=False))
    assert process is not None
    return Child(process, scratch)


def said(child: Child) -> list[bytes]:
    lines = []
    while not child.ended:
        lines += child.lines(0.2)
    return lines


def test_a_forked_child_is_fully_confined_and_does_its_order(nursery: Nursery, tmp_path: Path) -> None:
    with forked(nursery, scratch_for(tmp_path / "a", {})) as child:
        lines = said(child)
        assert child.wait(20)
        assert child.stop(0) == 0
    assert lines[0] == b'{"sandbox": "full"}'
    assert json.loads(lines[-1])["say"] == "done"


def test_forked_children_share_no_environment_and_no_folder(nursery: Nursery, tmp_path: Path) -> None:
    folders = [scratch_for(tmp_path / name, {}) for name in "ab"]
    children = [forked(nursery, folder) for folder in folders]
    for child, folder in zip(children, folders, strict=True):
        with child:
            assert json.loads(said(child)[-1])["say"] == "done"
            assert (folder / "out" / "model.onnx").exists()


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGFPE", "SIGKILL"])
def test_its_end_is_told_as_any_child_s(nursery: Nursery, tmp_path: Path, number: str) -> None:
    with forked(nursery, scratch_for(tmp_path / "a", {"then": number})) as child:
        said(child)
        assert child.wait(20)
        assert child.stop(0) == -getattr(signal, number)


def test_a_stubborn_child_is_killed_when_it_is_stopped(nursery: Nursery, tmp_path: Path) -> None:
    with forked(nursery, scratch_for(tmp_path / "a", {"then": "hang", "stubborn": True})) as child:
        while b"almost" not in b"".join(child.lines(0.2)):
            continue
        assert child.stop(0.2) == -signal.SIGKILL
    assert not stack.alive(child.pid)


def test_a_nursery_that_was_killed_takes_its_children_along_and_is_started_again(
    nursery: Nursery, tmp_path: Path
) -> None:
    with forked(nursery, scratch_for(tmp_path / "a", {"then": "hang"})) as child:
        assert nursery._process is not None
        os.kill(nursery._process.pid, signal.SIGKILL)
        assert child.wait(20)
        assert child.stop(0) == -signal.SIGKILL
        stack.until(lambda: not stack.alive(child.pid), 20)
    again = scratch_for(tmp_path / "b", {})
    assert nursery.fork(PROGRAM.module, again, Confinement(str(again), 0), {}) is None  # it learns of it
    with forked(nursery, again) as child:
        assert json.loads(said(child)[-1])["say"] == "done"


def test_every_forbidden_act_is_refused_to_a_forked_child(nursery: Nursery, tmp_path: Path) -> None:
    canary, scratch = tmp_path / "canary", scratch_for(tmp_path / "a", {})
    canary.write_text("secret")
    acts = ["read canary", "write outside", "make link", "sendto", "connect", "exec", "fork", "signal parent",
            "leave group", "outlive", "write much", "open many", "use memory", "write scratch"]  # fmt: skip
    order = {"acts": acts, "canary": str(canary), "outside": str(tmp_path / "out"), "port": 1, "scratch": str(scratch)}
    (scratch / "acts.json").write_text(json.dumps(order))
    with forked(nursery, scratch, "forbidden_acts") as child:
        (answer,) = [json.loads(line) for line in said(child) if b"sandbox" not in line] or [{}]
    assert [act for act in acts if answer.get(act)] == ["write scratch"]


def test_there_is_none_to_be_had_when_the_process_does_not_start(tmp_path: Path) -> None:
    broken = Nursery({"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}, CHECKING)
    scratch = scratch_for(tmp_path / "a", {})
    cage = replace(Confinement(str(scratch), 0), cpu_s=20)
    assert broken.fork(PROGRAM.module, scratch, cage, {}) is None


def test_a_compression_gives_the_same_files_forked_or_started_from_nothing(tmp_path: Path) -> None:
    order = compress(
        {"technique": "factorize", "rank": 0.5, "epochs": 0},
        {"technique": "share_weights", "epochs": 1, "min_size": 64},
        {"technique": "quantize_int8"},
        threads=2,
    )
    files = []
    with closing(Nursery(environment(tmp_path, 2, Program(), gpu=False), COMPUTING)) as nursery:
        for name in ("forked", "spawned"):
            scratch = scratch_for(tmp_path / name, {})
            mlp(scratch / "model.onnx")
            digits_npz(scratch / "digits.npz")
            (scratch / "order.json").write_text(json.dumps(order))
            env, cage = environment(scratch, 2, Program(), gpu=False), Confinement(str(scratch), os.getpid())
            forked = nursery.fork("workers.compute", scratch, cage, env) if name == "forked" else None
            assert isinstance(forked, Forked) == (name == "forked")
            command = cage.command("workers.compute", str(scratch))
            with Child(forked or Spawned(command, scratch, env), scratch) as child:
                lines = said(child)
                assert child.wait(60)
            assert json.loads(lines[-1])["say"] == "done", child.last_words()
            files.append([(scratch / "out" / f"{kind}.onnx").read_bytes() for kind in ("packed", "dense")])
    assert files[0] == files[1]
