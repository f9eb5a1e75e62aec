"""The whole hostile corpus against a service of its own, one row after the other: `python -m bench.hostile`."""

import os
import sys
import time
from collections import Counter
from pathlib import Path

from bench._service import table, write
from tests.hostile.corpus import corpus
from tests.hostile.rows import Row
from tests.hostile.service import Answer, Service, running

PAGE = Path("docs/reliability.md")


def send_all(service: Service) -> list[tuple[Row, Answer]]:
    """Send every row and say at once which answer is wrong."""
    answered = []
    for row in corpus():
        answer = row.send(service)
        answered.append((row, answer))
        if fault := row.fault(answer):
            print(f"WRONG {fault}", flush=True)
    return answered


def main() -> None:
    """Send the corpus, look at what is left behind, and write what came of it."""
    with running() as service:
        before = service.control()
        began = time.monotonic()
        answered = send_all(service)
        seconds = time.monotonic() - began
        same, troubles = service.control() == before, service.troubles()
    faults = [fault for row, answer in answered if (fault := row.fault(answer))]
    write("hostile", _section(answered, [*faults, *troubles], seconds, same=same), PAGE)
    if faults or troubles or not same:
        print(*troubles, sep="\n")
        sys.exit(1)


def _section(answered: list[tuple[Row, Answer]], wrong: list[str], seconds: float, *, same: bool) -> str:
    times = sorted(answer.seconds for row, answer in answered if row.timed and answer.status >= 400)
    problems = Counter(answer.problem or "accepted" for _, answer in answered)
    control = "the same, bit for bit" if same else "OTHERS"
    half, most = times[len(times) // 2], times[int(0.99 * len(times))]
    said = (
        f"{len(answered)} rows in {seconds / 60:.1f} minutes: {len(wrong)} wrong answers, 5xx answers, ended "
        f"processes, files left in scratch or secrets that came out; the control job's files are {control}. Verdicts "
        f"on {len(times)} refused uploads: {half:.2f} s (median), {most:.2f} s (p99), {times[-1]:.2f} s at most; load "
        f"{os.getloadavg()[0]:.1f}."
    )
    return f"{said}\n\n{table(['answer', 'rows'], [[name, str(count)] for name, count in problems.most_common()])}"


if __name__ == "__main__":
    main()
