"""10,000 seeded mutants of an ONNX file through the sandboxed check: no parent dies, nothing hangs.

Every mutant has a child of its own, forked from the nursery and confined as in service; what is left out is the queue.
`python -m bench.mutants [number]`.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from app.contracts.tasks import MESSAGE, CheckModelOrder, Done, Failed
from bench._service import table, write
from examples.networks import residual_cnn
from tests.hostile.kernels import graph
from tests.workers.compute.test_mutations import mutated
from tests.workers.importers.small_models import doubling_functions, model
from workers.child import Child, Program, environment
from workers.nursery import CHECKING, Nursery
from workers.sandbox import Confinement

MUTANTS, SEED, LIMIT_S = 10_000, 7, 120.0
PAGE = Path("docs/reliability.md")


@dataclass
class Tally:
    """What came of the mutants: verdicts, seconds each, children that ran past the limit."""

    verdicts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    hangs: int = 0

    def share(self, part: float) -> float:
        """Return the seconds within which this part of all verdicts came."""
        return sorted(self.seconds)[min(int(part * len(self.seconds)), len(self.seconds) - 1)]


def seeds() -> list[bytes]:
    """Small models of different build, whose bytes are nearly all structure."""
    return [
        model().SerializeToString(),
        residual_cnn((4,), 1, 8, 10).SerializeToString(),
        model(functions=doubling_functions(3), domains=["local"]).SerializeToString(),
        graph([onnx.helper.make_node("Softmax", ["h"], ["y"])]),
    ]


def order(scratch: Path, content: bytes) -> None:
    """Lay out one check."""
    shutil.rmtree(scratch, ignore_errors=True)
    for part in ("in", "out", "tmp"):
        (scratch / part).mkdir(parents=True)
    (scratch / "in" / "model.onnx").write_bytes(content)
    wanted = CheckModelOrder(path="in/model.onnx", format="onnx", threads=1)
    (scratch / "order.json").write_text(wanted.model_dump_json())


def verdict(nursery: Nursery, scratch: Path, tally: Tally) -> str:
    """Check what is in `scratch`; return the problem's name, `accepted`, or how the child ended."""
    cage = Confinement(str(scratch), 0, memory_bytes=16 << 30, cpu_s=300, file_bytes=1 << 30, require="full")
    env = environment(scratch, 1, Program(), gpu=False)
    process = nursery.fork("workers.compute", scratch, cage, env)
    if process is None:
        return "no child"
    began = time.monotonic()
    with Child(process, scratch) as child:
        while not child.ended:
            for line in child.lines(0.2):
                said = MESSAGE.validate_json(line) if b'"say"' in line else None
                if isinstance(said, Done):
                    return "accepted"
                if isinstance(said, Failed):
                    return said.problem.name
            if time.monotonic() - began > LIMIT_S:
                tally.hangs += 1
                return "hang"
        child.wait(10)
        return f"ended with {child.stop(0)}"


def main(arguments: list[str]) -> None:
    """Check the mutants and write what came of them."""
    number = int(arguments[0]) if arguments else MUTANTS
    whole, generator, tally = seeds(), random.Random(SEED), Tally()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "scratch"
        nursery = Nursery(environment(Path(folder), 1, Program(), gpu=False), CHECKING)
        nursery.warm()
        first = nursery.process_id
        for place in range(number):
            order(scratch, mutated(whole[place % len(whole)], generator))
            start = time.monotonic()
            tally.verdicts[verdict(nursery, scratch, tally)] += 1
            tally.seconds.append(time.monotonic() - start)
        deaths = int(nursery.process_id != first)
        nursery.close()
    write("mutants", _section(number, tally, deaths, time.monotonic() - began), PAGE)
    if deaths or tally.hangs:
        sys.exit(1)


def _section(number: int, tally: Tally, deaths: int, seconds: float) -> str:
    rows = [[name, f"{count:,}"] for name, count in tally.verdicts.most_common()]
    half, most = tally.share(0.5), tally.share(0.99)
    said = (
        f"{number:,} mutants (seed {SEED}) of {len(seeds())} models, each in a confined child of its own: {deaths} "
        f"deaths of the parent, {tally.hangs} past the limit of {LIMIT_S:g} s. A verdict took {half:.2f} s (median), "
        f"{most:.2f} s (p99), {max(tally.seconds):.2f} s at most; {seconds / 60:.0f} minutes, load "
        f"{os.getloadavg()[0]:.1f}."
    )
    return f"{said}\n\n{table(['verdict', 'mutants'], rows)}"


if __name__ == "__main__":
    main(sys.argv[1:])
