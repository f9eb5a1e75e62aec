"""What tests of the services start from."""

from collections.abc import Iterator

import pytest

from tests.stand_in import postgresql


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty database of either kind."""
    if request.param == "postgresql":
        with postgresql.serving() as found:
            yield found
    else:
        yield f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'modelpress.db'}"
