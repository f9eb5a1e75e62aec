"""What workers need of this machine, where they are installed. They look themselves, in a process of their own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, util

from app.contracts.operations import Finding
from app.doctor.words import ok, problem

_NEEDS = "torch"  # every worker has it, no gateway
_LIMIT_S = 120


def look() -> Iterator[Finding]:
    """Yield what `python -m workers.doctor` finds, or that no worker can run here."""
    if util.find_spec(_NEEDS) is None:
        version = metadata.version("modelpress")
        yield ok("worker", f"not here: modelpress {version} is here without what computes; look on a worker's machine")
        return
    command = [sys.executable, "-m", "workers.doctor"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=_LIMIT_S)  # noqa: S603 - our own
    except (subprocess.SubprocessError, OSError) as error:
        cure = f"run it by hand: {' '.join(command[1:])}"
        yield problem("worker", f"the look at this machine broke off ({type(error).__name__})", cure)
        return
    yield from (Finding.model_validate(one) for one in json.loads(done.stdout))
