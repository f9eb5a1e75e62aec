"""A worker starts only where it can confine its children as the settings demand."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.settings import Settings
from tests.stand_in import stack
from workers.sandbox import EXIT_UNCONFINED, reached_here

OLD_KERNEL = str(stack.HERE / "old_kernel.py")


def start(folder: Path, *before: str, **settings: str) -> subprocess.Popen[bytes]:
    env = {"PYTHONPATH": str(stack.ROOT), "PATH": "/usr/bin:/bin", "MODELPRESS_DATA_DIR": str(folder), **settings}
    command = [sys.executable, *before, "-m", "workers.main"]
    with (folder / "worker.log").open("wb") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=log)


def on_old_kernel(folder: Path, **settings: str) -> subprocess.Popen[bytes]:
    return start(folder, OLD_KERNEL, sys.executable, **settings)


def logged(folder: Path) -> str:
    return (folder / "worker.log").read_text()


def test_this_machine_reaches_the_full_level(tmp_path: Path) -> None:
    assert reached_here(tmp_path) == "full"


@pytest.mark.parametrize(
    "settings",
    [{"MODELPRESS_PROFILE": "production"}, {"MODELPRESS_REQUIRE_SANDBOX": "full"}],
    ids=["production", "asked for"],
)
def test_a_worker_refuses_to_start_below_the_full_level(tmp_path: Path, settings: dict[str, str]) -> None:
    assert on_old_kernel(tmp_path, **settings).wait(100) == EXIT_UNCONFINED
    assert "at level partial, and full is required" in logged(tmp_path)
    assert "MODELPRESS_REQUIRE_SANDBOX=partial" in logged(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [{}, {"MODELPRESS_PROFILE": "production", "MODELPRESS_REQUIRE_SANDBOX": "partial"}],
    ids=["embedded", "told so"],
)
def test_a_worker_starts_below_the_full_level_when_that_will_do(settings: dict[str, str]) -> None:
    with stack.data_folder() as folder:
        broker = stack.start_broker(folder)
        worker = on_old_kernel(folder, **settings)
        deadline = time.monotonic() + 100
        while "worker starts" not in logged(folder) and worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        worker.kill()
        worker.wait()
        stack.kill(broker)
        assert "worker starts" in logged(folder)


def test_production_demands_the_full_level_unless_told_otherwise() -> None:
    assert Settings().sandbox_floor == "none"
    assert Settings(profile="production").sandbox_floor == "full"
    assert Settings(profile="production", require_sandbox="none").sandbox_floor == "none"
