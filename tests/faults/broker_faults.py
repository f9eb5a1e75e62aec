"""Faults of the broker, and of everything at once."""

from tests.faults.cluster import end
from tests.faults.registry import LONG, NOTHING, STEADY, Run, fault
from tests.stand_in import stack


@fault("R5", "the broker is killed and comes back", "what was accepted meanwhile finishes; 202 or 503, never 500")
def restart_broker(run: Run) -> None:
    run.submit(LONG)
    run.client.model(NOTHING)
    end(run.cluster.broker)
    run.pause(0, 1)
    accepted = [job for _ in range(8) if (job := run.client.submit(run.client.model(NOTHING), seed=1))]
    assert accepted, "nothing was accepted"
    run.pause(0, 1)
    run.cluster.broker = stack.start_broker(run.cluster.settings.data_dir)
    for job in accepted:
        run.expect(job)


@fault("R6", "the broker forgets everything (FLUSHALL)", "queued and running jobs finish")
def flush_broker(run: Run) -> None:
    for _ in range(2):
        run.submit(STEADY)
    for _ in range(8):
        run.submit(NOTHING)
    run.pause(0, 0.5)
    with run.timed("recovery"):
        run.cluster.flush()
        for job in run.expected:
            run.client.wait(job)


@fault(
    "R24",
    "everything is killed and started again with jobs queued",
    "each reaches its end",
    stores=("sqlite", "postgresql"),
)
def restart_everything(run: Run) -> None:
    for _ in range(30):
        run.submit(NOTHING)
    run.pause(0, 1.5)
    cluster = run.cluster
    for process in [*cluster.gateways, *cluster.workers, cluster.sweeper, cluster.broker]:
        end(process)
    with run.timed("recovery"):
        cluster.heal()
        run.client.wait(next(iter(run.expected)))
