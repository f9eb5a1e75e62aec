"""Every encoding, found by walking this package: one file per encoding, its stem is the name in reports.

No try/except on purpose: a broken file stops the process.
"""

import importlib
import pkgutil
from collections.abc import Callable

from workers.compute.encodings.base import Contents, Encoded

# An encoding returns None where it cannot hold the values exactly.
Encoding = Callable[[Contents, int], Encoded | None]

SUPPORT = frozenset({"base", "digits", "packer", "scales", "streams"})


def _encodings() -> dict[str, Encoding]:
    stems = sorted(info.name for info in pkgutil.iter_modules(__path__) if info.name not in SUPPORT)
    return {stem: importlib.import_module(f"{__name__}.{stem}").encode for stem in stems}


ENCODINGS: dict[str, Encoding] = _encodings()
