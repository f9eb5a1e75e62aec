"""The real worker process with the stand-in child."""

import sys
from pathlib import Path

from app.logging import configure
from app.settings import Settings
from workers.child import Program
from workers.main import build, run


def main() -> int:
    configure("INFO")
    app, worker = build(Settings(), Program("stand_in_child", (Path(__file__).parent,)))
    run(app, worker, ["cpu", "checks", "egress"], 2)
    worker.resources.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
