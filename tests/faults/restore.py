"""A backup is taken while jobs run and restored elsewhere: every result is whole, what had not ended goes on.

`python -m tests.faults.restore --jobs 12 --write` writes its part of docs/reliability.md, for PostgreSQL with S3 and
for SQLite with a folder. The commands are those of "Backup" in docs/operations.md.
"""

import argparse
import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from sqlalchemy import select

from app.contracts.tasks import WorkKind
from app.stores.blobs import Blobs, address, zstd_address
from app.stores.database import Database, default_url
from app.stores.tables import work
from tests.faults.client import Client
from tests.faults.cluster import end_on_signal
from tests.faults.history import FINAL, Recorder
from tests.faults.production import Site, site
from tests.faults.registry import LONG, NOTHING
from tests.faults.soak import write

HEADS = [
    "stores", "jobs in the backup", "ended before it", "files whole", "went on to their end", "a blob deleted by hand",
    "backup took", "restore took",
]  # fmt: skip
ENDS_WITHIN_S = 600.0


@dataclass
class Proof:
    """One backup and its restore."""

    stores: str
    first: Site
    second: Site
    folder: Path
    results: dict[str, str] = field(default_factory=dict)  # digests of files, by job, from before the backup
    seconds: dict[str, float] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)  # of the jobs in the backup

    def backup(self) -> None:
        """Take the database first, then the blobs."""
        began = time.monotonic()
        if self.first.database is not None:
            self._program("pg_dump", "--format=custom", f"--file={self.folder}/modelpress.dump", self._uri(self.first))
        else:
            source = sqlite3.connect(self.first.folder / "modelpress.db")
            source.execute("VACUUM INTO ?", (str(self.folder / "modelpress.db"),))
            source.close()
        self.first.call("app.stores.copying", _blobs(self.first), f"file://{self.folder}/blobs")
        self.seconds["backup"] = time.monotonic() - began

    def restore(self) -> None:
        """Fill the empty stores of the second site, then start it."""
        began = time.monotonic()
        if self.second.database is not None:
            given = ("--no-owner", "--exit-on-error", f"--dbname={self._uri(self.second)}")
            self._program("pg_restore", *given, f"{self.folder}/modelpress.dump")
        else:
            (self.folder / "modelpress.db").rename(self.second.folder / "modelpress.db")
        self.second.call("app.stores.copying", f"file://{self.folder}/blobs", _blobs(self.second))
        self.seconds["restore"] = time.monotonic() - began
        database = Database(self.second.settings.database_url or default_url(self.second.folder))
        with database.reading() as tx:
            rows = tx.execute(select(work.c.id, work.c.state).where(work.c.kind == WorkKind.COMPRESS)).all()
        database.close()
        self.states = {row.id: row.state for row in rows}
        self.second.start_all()

    def _program(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs of the server's own version."""
        program = self.first.database.bin_path / name
        done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    @staticmethod
    def _uri(where: Site) -> str:
        return str(where.database.get_uri()).replace("postgresql+psycopg", "postgresql")


def _blobs(where: Site) -> str:
    return where.settings.blob_url or f"file://{where.folder}/blobs"


def prove(jobs: int, *, one_machine: bool) -> tuple[list[str], list[str]]:
    """Run the whole of it; return the row of the table and what was wrong."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="backup-")))
        recorder = Recorder(folder / "history.jsonl")
        opened.callback(recorder.close)
        first = opened.enter_context(site(one_machine=one_machine, proxied=False))
        second = opened.enter_context(site(one_machine=one_machine, proxied=False))
        proof = Proof("SQLite, folder" if one_machine else "PostgreSQL, S3", first, second, folder)
        first.start_all()
        _work(proof, first.client(recorder), jobs)
        proof.backup()
        first.stop_all()
        proof.restore()
        return _judge(proof, second.client(recorder))


def _work(proof: Proof, client: Client, jobs: int) -> None:
    """Submit short jobs, then long ones, and leave off when the short ones have ended and long ones run."""
    short = [client.submit(client.model(NOTHING), seed=number) for number in range(jobs // 2)]
    long = [client.submit(client.model(LONG), seed=number) for number in range(jobs - jobs // 2)]
    assert all([*short, *long]), "not every submission was accepted"
    for job in filter(None, short):
        proof.results[job] = _digest(client, client.wait(job, limit_s=ENDS_WITHIN_S)["artifact"])
    client.training(str(long[0]), limit_s=ENDS_WITHIN_S)
    client.close()


def _digest(client: Client, artifact: str) -> str:
    answer = client.insist("GET", f"/v1/artifacts/{artifact}/content", headers={"Accept-Encoding": "identity"})
    assert answer.status_code == 200, answer.text
    return hashlib.sha256(answer.content).hexdigest()


def _recorded(client: Client, artifact: str) -> str:
    return str(client.insist("GET", f"/v1/artifacts/{artifact}").json()["variants"]["packed"]["sha256"])


def _judge(proof: Proof, client: Client) -> tuple[list[str], list[str]]:
    ended = [job for job, state in proof.states.items() if state in FINAL]
    ends = {job: client.wait(job, limit_s=ENDS_WITHIN_S) for job in proof.states}
    wrong = [f"{job} ended as {end['state']}" for job, end in ends.items() if end["state"] != "succeeded"]
    digests = {job: _digest(client, end["artifact"]) for job, end in ends.items() if end["artifact"]}
    records = {
        job: client.insist("GET", f"/v1/artifacts/{ends[job]['artifact']}").json()["variants"]["packed"]["sha256"]
        for job in digests
    }
    wrong += [f"{job} has another file than its record says" for job in digests if digests[job] != records[job]]
    wrong += [f"{job} is not what it was" for job, was in proof.results.items() if digests.get(job) != was]
    slug = _after_a_lost_blob(proof, client, ends[next(iter(proof.results))]["artifact"])
    if slug != "410 artifact-missing":
        wrong.append(f"a lost blob is answered with {slug}")
    if len(ended) == len(ends):
        wrong.append("no job was under way, so that nothing was shown of those")
    client.close()
    counts = (len(ends), len(ended), len(digests), len(ends) - len(ended))
    times = (f"{proof.seconds[name]:.1f} s" for name in ("backup", "restore"))
    return [proof.stores, *map(str, counts), slug, *times], wrong


def _after_a_lost_blob(proof: Proof, client: Client, artifact: str) -> str:
    """Delete an artifact's bytes by hand and return how its download is answered."""
    sha256 = _recorded(client, artifact)
    with patch.dict(os.environ, proof.second.environment):  # noqa: TID251 - obstore's credentials, in this process too
        Blobs.open(_blobs(proof.second)).delete([address(sha256), zstd_address(sha256)])
    answer = client.ask("GET", f"/v1/artifacts/{artifact}/content", headers={"Accept-Encoding": "identity"})
    assert answer is not None
    return f"{answer.status_code} {answer.json()['type'].rpartition('/')[2]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    options = parser.parse_args()
    end_on_signal()
    found = [prove(options.jobs, one_machine=one_machine) for one_machine in (False, True)]
    rows = [HEADS, ["---"] * len(HEADS), *(row for row, _wrong in found)]
    wrong = [line for _row, each in found for line in each]
    text = "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", *(f"- {line}" for line in wrong)]).rstrip()
    print(text)  # noqa: T201
    if options.write:
        write("restore", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
