"""What a child says comes into the database with the ticks, its first word before them."""

import pytest

from app.contracts.tasks import Progress
from app.resources import Resources
from app.stores.work import Claim
from tests.stand_in import stack
from workers import heartbeat


def test_the_first_word_does_not_wait_for_a_tick(
    resources: Resources, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_TICK_S", 600.0)
    with heartbeat.Heartbeat(resources.database, held, 1800.0, 60.0) as pulse:
        pulse.note(Progress(stage="loading", progress=0.0))
        stack.until(lambda: _told(resources, held) == ["loading"], 10)
        pulse.note(Progress(stage="training", progress=0.5))
    assert _told(resources, held) == ["loading"]
    pulse.flush()
    assert _told(resources, held) == ["loading", "training"]


def _told(resources: Resources, held: Claim) -> list[str]:
    return [entry["stage"] for entry in stack.history(resources, held.id) if entry["kind"] == "progress"]
