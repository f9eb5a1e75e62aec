"""A compute child for tests of the machinery around it: the input file is a JSON script of what to do.

{"steps": 3, "pause_s": 0.1, "then": "done" | "fail" | "moan" | "hang" | "exit" | "swell" | "SIGSEGV" | …,
 "once": "<then of attempt 1>", "stages": ["fetching", …], "job": {a script for jobs; the check then just passes},
 "survey": {a script for the survey of a search}, and in `job` "by_technique": {"<of the first step>": {a script}}}
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import stand_in_job

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
    kind = order["kind"]
    is_job = kind == "compress"
    content = (scratch / (order["path"] if kind == "check_model" else order["model"]["path"])).read_bytes()
    script = script_for(kind, order, json.loads(content))
    if script.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    steps = script.get("steps", 1)
    stages = script.get("stages", ["training"])
    for step in range(steps):
        stage = stages[step * len(stages) // steps]
        point = {"step": step, "epoch": float(step), "loss": 1.0 / (step + 1)}
        say(say="progress", stage=stage, progress=step / steps, point=point)
        time.sleep(script.get("pause_s", 0.0))
    say(say="log", message="almost\nthere")
    then = script.get("then", "done")
    if then == "swell":
        swell()
    if kind == "survey" and then == "done":
        if "logits" in script:
            (scratch / "out" / "logits").write_text(script["logits"])
        say(say="done", survey=stand_in_job.SURVEY)
        return 0
    if is_job and then == "done":
        say(**stand_in_job.publish(scratch, order, script))
        return 0
    return finish(then, scratch, content)


def script_for(kind: str, order: dict[str, Any], script: dict[str, Any]) -> dict[str, Any]:
    """Return what of the script is for this kind of order."""
    if kind == "survey":
        return script.get("survey", {})
    if "job" in script:
        script = script["job"] if kind == "compress" else {}
    steps = order["recipe"]["steps"] if kind == "compress" else []
    return {**script, **script.get("by_technique", {}).get(steps[0]["technique"] if steps else "", {})}


def swell() -> None:
    """Take as much memory as there is, and end as the kernel ends such a process."""
    held = []
    try:
        while True:
            held.append(b"x" * (8 << 20))
    except MemoryError:
        time.sleep(0.7)  # the supervisor looks at its memory every half second
        os.kill(os.getpid(), signal.SIGKILL)


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
