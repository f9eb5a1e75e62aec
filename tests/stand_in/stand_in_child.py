"""A compute child for tests of the machinery around it: the input file is a JSON script of what to do.

{"steps": 3, "pause_s": 0.1, "then": "done" | "fail" | "moan" | "hang" | "exit" | "SIGSEGV" | …,
 "once": "<then of attempt 1>"}
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

SUMMARY = {
    "inputs": [], "outputs": [], "parameters": 1, "opset": 20, "operators": {"Add": 1},
    "onnx_bytes": 1, "zstd_bytes": 1,
}  # fmt: skip
PROBLEM = {"type": "https://modelpress.dev/problems/model-malformed", "title": "t", "status": 422, "detail": "d"}


def say(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> int:
    scratch = Path(sys.argv[1])
    order = json.loads((scratch / "order.json").read_text())
    content = (scratch / order["path"]).read_bytes()
    script = json.loads(content)
    if script.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    steps = script.get("steps", 1)
    for step in range(steps):
        point = {"step": step, "epoch": float(step), "loss": 1.0 / (step + 1)}
        say(say="progress", stage="training", progress=step / steps, point=point)
        time.sleep(script.get("pause_s", 0.0))
    say(say="log", message="almost\nthere")
    return finish(script.get("then", "done"), scratch, content)


def finish(then: str, scratch: Path, content: bytes) -> int:
    if then == "hang":
        while True:
            time.sleep(1)
    if then == "spam":
        while True:
            sys.stdout.write("x" * (1 << 20))
    if then == "exit":
        return 3
    if then in {"fail", "moan"}:
        if then == "moan":
            sys.stderr.write("noise\n" * 10_000 + "RuntimeRefused: the cause\n")
        say(say="failed", problem=PROBLEM)
        return 1
    if then.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, then))
        time.sleep(5)
    if then == "link":
        (scratch / "out" / "model.onnx").symlink_to("/etc/passwd")
    elif then != "nothing":
        (scratch / "out" / "model.onnx").write_bytes(content)
    say(say="done", model={**SUMMARY, "sha256": hashlib.sha256(content).hexdigest()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
