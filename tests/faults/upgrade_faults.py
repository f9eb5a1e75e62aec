"""The schema is migrated under running code of the version before."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from app.settings import Settings
from tests.faults.client import Client
from tests.faults.cluster import QUICK, answers, end, free_port, start_gateway
from tests.faults.registry import NOTHING, STEADY, Run, fault
from tests.stand_in import stack

VERSIONS = "app/stores/migrations/versions"


@cache
def code_before_the_newest_migration() -> Path:
    """Unpack `app` and `workers` as they were before the newest migration, beside the tests of today."""
    root = Path(mkdtemp(prefix="before-"))
    archive = _git("archive", _commit_before_the_newest_migration(), "app", "workers")
    subprocess.run(["tar", "-x", "-C", str(root)], input=archive, check=True)
    (root / "tests").symlink_to(stack.ROOT / "tests")
    return root


def _commit_before_the_newest_migration() -> str:
    """Return the latest commit whose migrations are some of today's, unchanged: a branch may bring several at once."""
    present = {
        (path.name, _git("hash-object", str(path)).decode().strip()) for path in (stack.ROOT / VERSIONS).glob("0*.py")
    }
    for commit in _git("log", "--first-parent", "--format=%H", "--", VERSIONS).decode().split():
        entries = (line.split() for line in _git("ls-tree", commit, f"{VERSIONS}/").decode().splitlines())
        if {(Path(name).name, blob) for _, _, blob, name in entries if Path(name).name.startswith("0")} < present:
            return commit
    msg = "this checkout has no history"
    raise LookupError(msg)


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=stack.ROOT, check=True, capture_output=True).stdout


@fault("R22", "the schema is migrated while the version before runs", "old workers finish, no job is lost")
def upgrade(run: Run) -> None:
    with _old_service(run) as (client, settings, port):
        jobs = [client.submit(client.model(script), seed=number) for number, script in enumerate([STEADY] * 3)]
        run.pause(0, 2)
        new_port = free_port()
        with ExitStack() as opened:
            opened.callback(end, gateway := start_gateway(settings, new_port))  # which migrates
            stack.until(lambda: answers(new_port), 60)
            jobs += [client.submit(client.model(NOTHING), seed=number) for number in range(3)]
            opened.callback(end, stack.start_worker(settings))
            client.urls = [f"http://127.0.0.1:{new_port}"]
            jobs += [client.submit(client.model(NOTHING), seed=9 + number) for number in range(3)]
            assert all(jobs), "not every submission was accepted"
            for job in filter(None, jobs):
                ended = client.wait(job)
                client.look_back(job, ended)
                assert ended["state"] == "succeeded", ended["error"]
            assert gateway.poll() is None
            assert answers(port), "the old gateway no longer answers"


@contextmanager
def _old_service(run: Run) -> Iterator[tuple[Client, Settings, int]]:
    """Run broker, gateway, worker and sweeper of the version before on a folder of their own."""
    root, port = code_before_the_newest_migration(), free_port()
    with ExitStack() as opened:
        folder = opened.enter_context(stack.data_folder())
        settings = stack.settings_for(folder, **QUICK)
        opened.callback(end, stack.start_broker(folder))
        opened.callback(end, start_gateway(settings, port, root))
        stack.until(lambda: answers(port), 60)
        opened.callback(end, stack.start_worker(settings, root=root))
        opened.callback(end, stack.start_sweeper(settings, extra={"PYTHONPATH": str(root)}))
        client = Client([f"http://127.0.0.1:{port}"], run.client.recorder)
        opened.callback(client.close)
        yield client, settings, port
