"""The real worker process with the stand-in child."""

import argparse
import sys
from pathlib import Path

from app.logging import configure
from app.settings import Settings
from workers.child import Program
from workers.main import build, run


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--queues", default="cpu,checks,egress")
    parser.add_argument("--concurrency", type=int, default=2)
    options = parser.parse_args()
    configure("INFO")
    app, worker = build(Settings(), Program("stand_in_child", (Path(__file__).parent,)))
    run(app, worker, options.queues.split(","), options.concurrency)
    worker.resources.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
