"""The memory of import, edit and save, on a 64 MiB model with the limit of one file lowered; see bench/big_model.py."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_model_is_not_copied_when_imported_changed_and_saved(tmp_path: Path) -> None:
    sizes = ["--mib", "64", "--width", "512", "--limit-mib", "16", "--scratch", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-m", "bench.big_model", *sizes, "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["files"] == 2
    assert found["compared"] == 64
    assert found["growth_ratio"] <= 1.5  # the model's mapped pages are once the model
    assert found["anonymous"] - found["before"] < 0.5 * found["model"]
    assert not list(tmp_path.iterdir())
