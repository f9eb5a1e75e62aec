"""The Celery worker: `python -m workers.main --queues cpu,checks --concurrency 1`. Wiring only.

Pool: threads. A task here only waits for its child, so the pool of processes would buy nothing and cost a second
copy of everything, a second process to lose and a second way to be killed; whatever can crash, leak or fill memory
is in the disposable child. A drain is ours too: the first SIGTERM lets work run on for `drain_s` and then gives it
back to the queue.
"""

import argparse
import os
import platform
import sys
import threading
from collections.abc import Sequence

import structlog
from celery import Celery, signals

from app.contracts.tasks import Queue
from app.logging import configure
from app.resources import connect, priorities
from app.settings import Settings
from workers import figures
from workers.child import Program, environment
from workers.nursery import CHECKING, COMPUTING, Nursery
from workers.registering import register_due
from workers.sandbox import EXIT_UNCONFINED, LEVELS, reached_here
from workers.scratch import remove_leftovers
from workers.supervisor import Rules
from workers.sweeper import repeat
from workers.tasks import Worker, register

_DAY_S = 86_400  # longer than most work: the lease and the sweeper recover lost work, not the broker's redelivery

log = structlog.get_logger(__name__)


def build(settings: Settings, program: Program | None = None) -> tuple[Celery, Worker]:
    """Return the Celery app with its tasks, and what they work with."""
    resources = connect(settings, "worker")
    # Only the real child is kept warm: what stands in for it has nothing to import.
    nurseries = {} if program else _nurseries(settings)
    counts = figures.Figures(resources.traces)
    rules = Rules(settings, program or Program(), threading.Event(), nurseries, counts)
    worker = Worker(resources, rules, owner=f"{platform.node()}:{os.getpid()}")
    app = Celery("modelpress", broker=resources.broker.url, set_as_current=False)
    app.conf.update(_options())
    register(app, worker)
    return app, worker


def _nurseries(settings: Settings) -> dict[Queue, Nursery]:
    """Return where children come from, by the queue of their order; what is served on a GPU is started from nothing."""
    # The threads of OpenMP are set when torch is imported.
    env = environment(settings.scratch, settings.threads, Program(), gpu=False)
    return {Queue.CHECKS: Nursery(env, CHECKING), Queue.CPU: Nursery(env, COMPUTING)}


def _options() -> dict[str, object]:
    """Return Celery's settings; each was tried against kills of worker and broker."""
    return {
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_default_queue": Queue.CPU.value,
        "worker_prefetch_multiplier": 1,
        # Left off: with it a broker that restarts in mid-task loses the task.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": _DAY_S,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "unacked_restore_limit": 100,
            "socket_timeout": 30,
            "socket_keepalive": True,
            "health_check_interval": 25,
        }
        | priorities(),
    }


def run(app: Celery, worker: Worker, queues: Sequence[str], concurrency: int) -> None:
    """Serve the queues until SIGTERM or SIGINT, then drain."""
    settings = worker.resources.settings
    removed = remove_leftovers(settings.scratch)
    figures.serve(worker.rules.figures, settings)
    nurseries = worker.rules.nurseries
    for queue in nurseries.keys() & set(queues):
        nurseries[queue].warm()
    log.info("worker starts", queues=list(queues), concurrency=concurrency, leftovers=removed)
    if Queue.EGRESS.value in queues:
        _register_beside(worker)
    signals.worker_shutting_down.connect(lambda **_kw: worker.rules.drain.set(), weak=False)
    arguments = ["--quiet", "worker", "--pool=threads", f"--concurrency={concurrency}", f"--queues={','.join(queues)}"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", f"--loglevel={settings.log_level}"]
    app.worker_main([*arguments, *quiet, f"--hostname=modelpress-{os.getpid()}@%h"])
    for nursery in nurseries.values():
        nursery.close()


def _register_beside(worker: Worker) -> None:
    """Send results back to registries, from the process that may reach out, until it drains.

    A try that is cut off is made again elsewhere.
    """
    resources, stop = worker.resources, worker.rules.drain
    every_s = resources.settings.sweep_every_s
    arguments = (lambda: register_due(resources), every_s, stop)
    threading.Thread(target=repeat, args=arguments, name="registrations", daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="workers.main", description=__doc__)
    parser.add_argument("--queues", default=Queue.CPU.value, help="comma-separated: cpu, gpu, checks, egress")
    parser.add_argument("--concurrency", type=int, default=1, help="pieces of work at a time")
    options = parser.parse_args(arguments)
    queues = [Queue(name).value for name in options.queues.split(",")]
    settings = Settings()
    configure(settings.log_level)
    level = reached_here(settings.scratch)
    opens_uploads = queues != [Queue.EGRESS.value]  # what is pulled is moved and opened elsewhere
    if opens_uploads and LEVELS.index(level) < LEVELS.index(settings.sandbox_floor):
        log.error(
            f"this machine confines compute children at level {level}, and {settings.sandbox_floor} is required: "
            "uploads would be opened with less isolation. Run on Linux 5.13 or newer with Landlock and seccomp, or set "
            f"MODELPRESS_REQUIRE_SANDBOX={level}"
        )
        return EXIT_UNCONFINED
    app, worker = build(settings)
    run(app, worker, queues, options.concurrency)
    worker.resources.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
