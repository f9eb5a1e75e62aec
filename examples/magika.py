"""A model from a PyPI package: Google's classifier of file types by their bytes, 214 classes, as its ONNX file.

    python -m examples.magika [folder]

Leaves `types.onnx` (from the package `magika`, Apache-2.0) and `files.npz`: what it looks at of up to 4,000 files of
this system's programs, at most 100 with the same suffix, without labels.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.packages import unpacked

PACKAGE = "magika==1.0.3"
MEMBER = "magika/models/standard_v3_3/model.onnx"
ROWS, SAME_SUFFIX = 4_000, 100
# The model looks at the first and the last bytes of a file, without white space around them.
BLOCK, SIDE, PADDING = 4_096, 1_024, 256
_FEWEST = 16
_ROOTS = (Path(sys.prefix), Path("/usr/lib"), Path("/usr/share"))


def main(folder: Path) -> None:
    """Write both files into `folder`."""
    unpacked(PACKAGE, MEMBER, folder / "types.onnx")
    rows = np.unique(np.stack([features(file) for file in _files()]), axis=0)
    np.savez(folder / "files.npz", bytes=np.random.default_rng(0).permutation(rows))
    print(f"wrote types.onnx and files.npz, {len(rows)} files, to {folder}")


def features(file: Path) -> NDArray[np.int32]:
    """Return (2 * SIDE,): the bytes of both ends of a file, PADDING where it has fewer."""
    with file.open("rb") as opened:
        first = opened.read(BLOCK)
        opened.seek(max(0, file.stat().st_size - BLOCK))
        last = opened.read(BLOCK)
    head, tail = first.lstrip()[:SIDE], last.rstrip()[-SIDE:]
    found = np.full(2 * SIDE, PADDING, np.int32)
    found[: len(head)] = np.frombuffer(head, np.uint8)
    found[2 * SIDE - len(tail) :] = np.frombuffer(tail, np.uint8)
    return found


def _files() -> Iterator[Path]:
    known = sorted(Path(where) / name for root in _ROOTS for where, _, names in os.walk(root) for name in names)
    random.Random(0).shuffle(known)  # a sample, no secret
    taken: Counter[str] = Counter()
    for file in known:
        if taken.total() == ROWS:
            return
        suffix = file.suffix.lower()
        if taken[suffix] < SAME_SUFFIX and file.is_file() and not file.is_symlink() and _is_readable(file):
            taken[suffix] += 1
            yield file


def _is_readable(file: Path) -> bool:
    return os.access(file, os.R_OK) and file.stat().st_size >= _FEWEST


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "var/examples/magika"))
