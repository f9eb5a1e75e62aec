import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.interruptions import reach
from app.settings import Settings


def test_a_named_point_acts_once(tmp_path: Path) -> None:
    settings = Settings(fault_file=tmp_path / "fault")
    (tmp_path / "fault").write_text("stored 0.2")
    began = time.monotonic()
    reach(settings, "recorded")
    assert time.monotonic() - began < 0.2
    reach(settings, "stored")
    waited_s = time.monotonic() - began
    reach(settings, "stored")
    assert waited_s >= 0.2
    assert not settings.fault_file.exists()  # type: ignore[union-attr] # set above


def test_without_a_file_nothing_happens(tmp_path: Path) -> None:
    reach(Settings(), "stored")
    reach(Settings(fault_file=tmp_path / "none"), "stored")


def test_the_production_profile_does_not_start_with_it(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="fault_file"):
        Settings(profile="production", fault_file=tmp_path / "fault")
