"""What holds for every test: this process ends it with the limits it began with, or what it starts later suffers."""

import resource
from collections.abc import Iterator

import pytest

_KINDS = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}


def _limits() -> dict[str, tuple[int, int]]:
    return {name: resource.getrlimit(kind) for name, kind in _KINDS.items()}


@pytest.fixture(autouse=True)
def limits_are_left_alone() -> Iterator[None]:
    """Fail where a test leaves a resource limit changed: a browser started after that would trap, far from here."""
    before = _limits()
    yield
    after = _limits()
    for name, limit in before.items():
        resource.setrlimit(_KINDS[name], limit)
    assert after == before
