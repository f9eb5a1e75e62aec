"""What the stand-in child answers to a compression: files made of the script and the seed alone, and a report."""

import hashlib
import json
from pathlib import Path
from typing import Any

MEASUREMENT = {"parameters": 1, "nonzeros": 1, "file_bytes": 1, "zstd_bytes": 1}
ENVIRONMENT = {"python": "3", "versions": {}, "cpu": "none", "cpu_flags": [], "threads": 1, "device": "cpu"}
SURVEY = {
    "rows": 10, "labelled": True, "floating_inputs": True, "quality": None, "parameters": 10, "macs": None,
    "file_bytes": 100, "resident_bytes": None, "p50_ms": 1.0, "layers": 0, "tables": 0, "neurons": 0, "heads": 0,
    "channels": 0, "batch_norms": 0,
}  # fmt: skip


def publish(scratch: Path, order: dict[str, Any], script: dict[str, Any]) -> dict[str, Any]:
    """Write the two files and return the message that ends the job."""
    told = json.dumps([script, order["seed"]], sort_keys=True).encode()
    for name in ("packed", "dense"):
        block = hashlib.sha256(name.encode() + told).digest()
        (scratch / "out" / f"{name}.onnx").write_bytes(block * 32 * script.get("kib", 1))
    return {"say": "done", "report": report(order["seed"])}


def report(seed: int) -> dict[str, Any]:
    return {
        "verdict": "no change", "before": MEASUREMENT, "after": MEASUREMENT, "changes": [], "steps": [], "tensors": [],
        "seed": seed, "digests": {}, "environment": ENVIRONMENT, "duration_s": 0.0,
    }  # fmt: skip
