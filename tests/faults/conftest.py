from collections.abc import Iterator

import pytest

from app.resources import Resources
from tests.stand_in import stack


@pytest.fixture
def resources() -> Iterator[Resources]:
    with stack.data_folder() as folder, stack.open_stores(stack.settings_for(folder)) as found:
        yield found
