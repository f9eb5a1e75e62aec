"""`make demo`: start the one-machine stack, compress a real model, leave the page up.

Everything goes through the command line that a user has; the stack keeps running until `make demo-stop`.
"""

import subprocess
import sys
import time
from pathlib import Path

import httpx

from examples.originals import digits

FOLDER = Path("var/demo")
SERVER = "http://127.0.0.1:8000"
READY_WITHIN_S = 60
STEPS = ["prune_layers:keep=4", "distill:epochs=10", "share_weights:clusters=16"]


def main() -> int:
    """Run the demo; return the exit code of `modelpress compress`."""
    model, data = digits(FOLDER)
    start_stack()
    command = [_bin("modelpress"), "compress", str(model), "--data", str(data), "-o", str(FOLDER / "out")]
    command += [part for step in STEPS for part in ("--step", step)] + ["--server", SERVER]
    print("\n$ " + " ".join(["modelpress", *command[1:]]), flush=True)
    code = subprocess.run(command, check=False).returncode
    print(f"\nThe page is up: {SERVER}/   (stop it with: make demo-stop)")
    return code


def start_stack() -> None:
    """Start `modelpress up` in the background unless a server answers already; wait until it is ready."""
    if _ready():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "up.log").open("ab") as log:
        stack = subprocess.Popen(
            [_bin("modelpress"), "up"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (FOLDER / "up.pid").write_text(str(stack.pid))
    until = time.monotonic() + READY_WITHIN_S
    while not _ready():
        if stack.poll() is not None or time.monotonic() > until:
            sys.exit(f"the stack did not start; see {FOLDER / 'up.log'}")
        time.sleep(0.2)


def _ready() -> bool:
    try:
        return httpx.get(f"{SERVER}/readyz", timeout=2).is_success
    except httpx.TransportError:
        return False


def _bin(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


if __name__ == "__main__":
    sys.exit(main())
