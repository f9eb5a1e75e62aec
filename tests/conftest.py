"""What holds for every test: this process ends it with the limits it began with, or what it starts later suffers.

Tests marked `gpu` are skipped where there is no CUDA device.
"""

import resource
from collections.abc import Iterator

import pytest

_KINDS = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}


def _limits() -> dict[str, tuple[int, int]]:
    return {name: resource.getrlimit(kind) for name, kind in _KINDS.items()}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none; PyTorch is imported only where it is asked."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch  # noqa: PLC0415

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device, or a PyTorch without CUDA")


@pytest.fixture(autouse=True)
def limits_are_left_alone() -> Iterator[None]:
    """Fail where a test leaves a resource limit changed: a browser started after that would trap, far from here."""
    before = _limits()
    yield
    after = _limits()
    for name, limit in before.items():
        resource.setrlimit(_KINDS[name], limit)
    assert after == before
