"""Every fault with many timings: `python -m tests.faults.soak --runs 20` writes the table of docs/reliability.md."""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.faults import broker_faults, gateway_faults, store_faults, upgrade_faults, worker_faults  # noqa: F401 - they enter faults
from tests.faults.cluster import end_on_signal, running
from tests.faults.registry import FAULTS, Fault, Outcome, execute

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def soak(names: Sequence[str], runs: int, first_seed: int, histories: Path) -> list[Outcome]:
    """Run each fault `runs` times, on one cluster per store."""
    wanted = [(store, FAULTS[name]) for name in names for store in FAULTS[name].stores]
    found = []
    for store in dict.fromkeys(store for store, _chosen in wanted):
        with ExitStack() as opened:
            cluster = opened.enter_context(running(store))
            for chosen in [each for kind, each in wanted if kind == store]:
                turn = chosen.stores.index(store)
                for number in range(turn, min(runs, chosen.most_runs or runs), len(chosen.stores)):
                    outcome = execute(chosen, cluster, number, first_seed + number, histories)
                    told(outcome)
                    found.append(outcome)
    return found


def told(outcome: Outcome) -> None:
    figures = " ".join(f"{name} {value:.1f} s" for name, value in outcome.figures.items())
    said = outcome.failure or "held"
    print(f"{outcome.fault} seed {outcome.seed}: {said} ({outcome.seconds:.1f} s) {figures}", flush=True)  # noqa: T201


def table(outcomes: Iterable[Outcome], seconds: float) -> str:
    """Write one line per fault: runs, lost, doubled, stuck, and the worst of each figure."""
    per_fault: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        per_fault[outcome.fault].append(outcome)
    lines = [
        "| fault | what happens | what holds | runs | failed | lost | doubled | stuck | worst |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_line(FAULTS[name], per_fault[name]) for name in sorted(per_fault, key=_order)]
    runs = sum(len(each) for each in per_fault.values())
    load = os.getloadavg()[0]
    lines.append(f"\n{runs} runs in {seconds / 60:.0f} minutes on {os.cpu_count()} cores, load {load:.1f} at the end.")
    return "\n".join(lines)


def _line(chosen: Fault, found: list[Outcome]) -> str:
    worst: dict[str, float] = {}
    for outcome in found:
        for name, value in outcome.figures.items():
            worst[name] = max(worst.get(name, value), value)
    counts = [
        len(found),
        *(sum(map(bool, each)) for each in zip(*((o.failure, o.lost, o.doubled, o.stuck) for o in found), strict=True)),
    ]
    figures = ", ".join(f"{name} {value:.1f} s" for name, value in worst.items())
    return "| " + " | ".join([chosen.name, chosen.title, chosen.promise, *map(str, counts), figures]) + " |"


def _order(name: str) -> tuple[int, str]:
    return int(name[1:].rstrip("L")), name


def write(section: str, text: str) -> None:
    """Put a text between its marks in the page."""
    begin, end = f"<!-- {section}: written by soak -->", f"<!-- {section}: end -->"
    before, found, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    if not found:
        sys.exit(f"{PAGE} has no line {begin}")
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default="", help="comma-separated; all by default")
    parser.add_argument("--write", action="store_true", help="write the table into the page")
    options = parser.parse_args()
    end_on_signal()
    names = options.faults.split(",") if options.faults else sorted(FAULTS, key=_order)
    histories = Path(tempfile.mkdtemp(prefix="histories-"))
    began = time.monotonic()
    outcomes = soak(names, options.runs, options.seed, histories)
    print(f"histories of runs that failed: {histories}")  # noqa: T201
    text = table(outcomes, time.monotonic() - began)
    print(text)  # noqa: T201
    if options.write:
        write("faults", text)
    return 1 if any(outcome.failure for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
