"""An upgrade over a change of the schema, with work under way: no call may fail and no job be lost.

`python -m tests.faults.upgrade --jobs 60 --write` writes its part of docs/reliability.md. The old code is that of the
commit before the newest migration, so it is always the latest upgrade: migrate, roll the gateways, then the workers.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from app.stores import migrate
from app.stores.database import Database
from tests.faults.cluster import end_on_signal
from tests.faults.history import Recorder, load, violations
from tests.faults.production import Site, site
from tests.faults.rolling import ENDS_WITHIN_S, READS_PER_S, Outcome, Reads, Rolling, outcome, restart
from tests.faults.soak import write
from tests.faults.upgrade_faults import code_before_the_newest_migration
from tests.stand_in import stack

AFTER_THE_MIGRATION = ("gateway-1", "gateway-2", "worker-checks", "worker-1", "worker-2", "sweeper")


def upgrade(jobs: int, reads_per_s: float = READS_PER_S) -> Outcome:
    """Upgrade a site of the version before while jobs come and reads go on."""
    path = Path(tempfile.mkdtemp(prefix="upgrade-")) / "history.jsonl"
    recorder = Recorder(path)
    shares = [jobs // 4, jobs // 4, *_even(jobs - 2 * (jobs // 4), len(AFTER_THE_MIGRATION))]
    with site() as where:
        where.root = code_before_the_newest_migration()
        where.start_all()
        old = version(where)
        client = where.client(recorder)
        with Reads(where.url, reads_per_s) as reads:
            run = Rolling(where, client, reads)
            run.phase("nothing: all is old", shares[0], lambda: time.sleep(2))
            where.root = stack.ROOT
            run.phase("the schema, under old code", shares[1], where.migrate)
            reads.phase = "waiting for the old workers"
            for job in run.jobs:  # which end what they have on the new schema
                client.wait(job, limit_s=ENDS_WITHIN_S)
            by_old = len(run.jobs)
            for name, share in zip(AFTER_THE_MIGRATION, shares[2:], strict=True):
                run.phase(f"{name}, to the new code", share, lambda name=name: restart(where, name))  # type: ignore[misc] # bound now
            reads.phase = "nothing"
            states = run.settle()
        new = version(where)
        client.close()
    recorder.close()
    found = outcome(run, states, violations(load(path)))
    said = (
        f"From schema {old} to {new}: old workers ended {by_old} jobs, of which {shares[1]} came with the new schema."
    )
    return Outcome(f"{said}\n\n{found.text}", found.holds and old != new)


def _even(total: int, parts: int) -> list[int]:
    return [total * (number + 1) // parts - total * number // parts for number in range(parts)]


def version(where: Site) -> str:
    """Return the schema's version that the database has."""
    database = Database(where.settings.database_url)
    found = migrate.current(database)
    database.close()
    return str(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--rate", type=float, default=READS_PER_S, help="reads a second")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    options = parser.parse_args()
    end_on_signal()
    found = upgrade(options.jobs, options.rate)
    print(found.text)  # noqa: T201
    if options.write:
        write("upgrade", found.text)
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
