"""Any group of any drawn network can be cut at random, and the answers are those that zeros give."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.workers.graph.dimensions import cuts, random_networks
from workers.compute.graph.dimensions import couple

FEEDS = [{"x": np.random.default_rng(rows).normal(size=(rows, 3, 4, 4)).astype(np.float32)} for rows in (2, 1)]
EXAMPLES = 120


@pytest.mark.timeout(400)  # a failure is shrunk before it is told
@pytest.mark.parametrize("opset", [12, 13])
def test_any_group_goes(opset: int) -> None:
    networks = random_networks.networks(opset)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(networks, st.data())
    def hold(model: Any, data: st.DataObject) -> None:
        coupling = couple(model)
        assert coupling.barriers == ()
        assume(coupling.groups)
        chosen = data.draw(
            st.lists(st.sampled_from(coupling.groups), min_size=1, max_size=3, unique_by=lambda g: g.name)
        )
        removed = {
            group.name: data.draw(st.sets(st.integers(0, group.units - 1), min_size=1, max_size=group.units - 1))
            for group in chosen
        }
        cuts.check(model, coupling, removed, *FEEDS)

    hold()
