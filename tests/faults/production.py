"""The production shape on loopback: PostgreSQL, S3, Valkey, two gateways behind HAProxy, three workers, a sweeper.

The same processes, in the same profile and behind the same `deploy/haproxy.cfg`, as `docker-compose.yml` has them;
without containers. With `one_machine` the database is SQLite and the blobs are a folder. The child that
computes is the stand-in's.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.faults.client import Client
from tests.faults.cluster import Process, answers, end, free_port
from tests.faults.history import Recorder
from tests.stand_in import postgresql, stack
from tests.stand_in.s3 import S3

KEY = "key-of-the-proofs"
QUEUES = {"worker-checks": "checks", "worker-1": "cpu", "worker-2": "cpu"}
PARTS = ("gateway-1", "gateway-2", *QUEUES, "sweeper", "broker", "database")  # in the order of a rolling restart
LEASE_S, DRAIN_S = 10.0, 10.0
_STARTS_WITHIN_S, _STOPS_WITHIN_S = 600.0, 120.0  # a busy machine is slow, not stuck


class Site:
    """One installation; each of its parts may be stopped, and started with the code of another root."""

    def __init__(self, folder: Path, database: Any, s3: S3 | None, proxied: bool) -> None:
        self.folder, self.database, self.s3, self.proxied = folder, database, s3, proxied
        self.root = stack.ROOT
        self.workers = dict(QUEUES)  # the queue of each worker, by its name
        self.ports = {name: free_port() for name in ("gateway-1", "gateway-2", "proxy", "nobody")}
        changes: dict[str, Any] = {"blob_url": "s3://bucket/modelpress"} if s3 else {}
        if database is not None:
            changes["database_url"] = database.get_uri()
        self.settings = stack.settings_for(
            folder, profile="production", require_sandbox="none", sweep_every_s=1.0, ring_again_s=5.0,
            lease_s=LEASE_S, drain_s=DRAIN_S, child_memory_bytes=512 << 20, max_queued_per_tenant=20_000, **changes,
        )  # fmt: skip
        self.environment = {"MODELPRESS_API_KEYS": json.dumps({KEY: "tenant"}), **(s3.environment if s3 else {})}
        self.processes: dict[str, Process] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['proxy' if self.proxied else 'gateway-1']}"

    def client(self, recorder: Recorder) -> Client:
        return Client([self.url], recorder, KEY)

    def migrate(self) -> None:
        """Bring the schema to the newest version that the code of the root knows."""
        self.call("app.stores.migrate")

    def call(self, module: str, *arguments: str) -> str:
        """Run a module to its end with the site's environment and return what it printed."""
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, env=self.variables(), cwd=self.root, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def variables(self) -> dict[str, str]:
        return {**stack.environment(self.settings), **self.environment, "PYTHONPATH": str(self.root)}

    def start_all(self) -> None:
        """Migrate, then start every part; without a proxy one gateway is enough."""
        self.migrate()
        for name in ("broker", "gateway-1", *(["gateway-2"] if self.proxied else []), *self.workers, "sweeper"):
            self.start(name)
        if self.proxied:
            self.start("proxy")
            stack.until(lambda: answers(self.ports["proxy"], "healthz"), _STARTS_WITHIN_S)

    def start(self, name: str) -> None:
        """Start a part with the code of the root, and wait until it answers, if it answers anybody."""
        if name == "database":
            self.database.ensure_postgres_running()
        elif name == "broker":
            self.processes[name] = stack.start_broker(self.folder)
        else:
            self.processes[name] = self._run(name)
        if name.startswith("gateway"):
            stack.until(lambda: answers(self.ports[name]), _STARTS_WITHIN_S)

    def _run(self, name: str) -> Process:
        environment = self.variables()
        if name == "proxy":
            program = shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
            assert program, "haproxy is not installed: apt-get install --no-install-recommends haproxy"
            command = [program, "-f", str(stack.ROOT / "deploy" / "haproxy.cfg")]
            places = {"PROXY": "proxy", "GATEWAY_1": "gateway-1", "GATEWAY_2": "gateway-2"}
            environment = {variable: f"127.0.0.1:{self.ports[where]}" for variable, where in places.items()}
            environment |= {"GRAFANA_PROXY": f"127.0.0.1:{free_port()}", "GRAFANA": f"127.0.0.1:{self.ports['nobody']}"}
        elif name.startswith("gateway"):
            command = [sys.executable, "-m", "app.main"]
            environment["MODELPRESS_PORT"] = str(self.ports[name])
        elif name == "sweeper":
            command = [sys.executable, "-m", "workers.sweeper"]
        else:
            command = [
                sys.executable,
                "-m",
                "tests.stand_in.worker",
                "--queues",
                self.workers[name],
                "--concurrency",
                "1",
            ]
            # As containers have it: a worker that starts clears its scratch folder.
            environment["MODELPRESS_SCRATCH_DIR"] = str(self.folder / f"scratch-{name}")
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, cwd=self.root, stdout=log, stderr=log)

    def stop(self, name: str) -> None:
        """Stop a part as an operator does, with SIGTERM, and wait for its end."""
        if name == "database":
            pid = self.database.get_pid()
            os.kill(pid, signal.SIGINT)  # PostgreSQL's fast shutdown: sessions end, nothing is recovered
            stack.until(lambda: not stack.alive(pid), _STOPS_WITHIN_S)
            return
        process = self.processes[name]
        process.terminate()
        process.wait(_STOPS_WITHIN_S)

    def blob_calls(self) -> int:
        """Return how many calls the S3 server has had, and this look as one."""
        assert self.s3 is not None
        return next(self.s3.store.calls)

    def stop_all(self) -> None:
        for name in reversed(self.processes):
            end(self.processes[name])


@contextmanager
def site(*, one_machine: bool = False, proxied: bool = True) -> Iterator[Site]:
    """Yield an installation whose stores run and are empty, and of which nothing else runs."""
    with ExitStack() as opened:
        folder = opened.enter_context(stack.data_folder())
        s3, server = None, None
        if not one_machine:
            s3 = opened.enter_context(S3())
            s3.store.flaky = False
            server = opened.enter_context(postgresql.server(folder / "pg"))
        found = Site(folder, server, s3, proxied)
        opened.callback(found.stop_all)
        yield found
