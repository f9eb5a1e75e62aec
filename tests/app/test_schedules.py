"""When schedules are due: time zones, daylight saving, and expressions that are none."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.trigger import Schedule
from app.schedules import faults, missed, next_after

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def following(cron: str, after: float, count: int = 1) -> list[str]:
    """Return the next due times as the clock in Berlin shows them, with the offset."""
    schedule, found = Schedule(cron=cron, timezone="Europe/Berlin"), []
    for _ in range(count):
        due = next_after(schedule, after)
        assert due is not None
        assert due > after
        after = due
        found.append(datetime.fromtimestamp(due, BERLIN).isoformat(timespec="minutes"))
    return found


def test_time_of_day_is_that_of_the_zone() -> None:
    assert following("0 3 * * MON-FRI", at("2026-11-27T12:00"), 2) == [
        "2026-11-30T03:00+01:00",
        "2026-12-01T03:00+01:00",
    ]
    tokyo = Schedule(cron="0 3 * * *", timezone="Asia/Tokyo")
    assert next_after(tokyo, at("2026-11-27T12:00", "UTC")) == at("2026-11-28T03:00", "Asia/Tokyo")
    assert next_after(Schedule(cron="0 3 * * *"), at("2026-11-27T12:00", "UTC")) == at("2026-11-28T03:00", "UTC")


def test_time_that_a_spring_day_leaves_out_comes_right_after_the_gap() -> None:
    assert following("30 2 * * *", at("2026-03-28T12:00"), 2) == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]
    assert following("*/30 * * * *", at("2026-03-29T01:30")) == ["2026-03-29T03:00+02:00"]


def test_time_that_an_autumn_day_has_twice_comes_once() -> None:
    assert following("30 2 * * *", at("2026-10-24T12:00"), 2) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]


def test_what_repeats_within_the_day_comes_in_both_of_two_equal_hours() -> None:
    assert following("*/30 * * * *", at("2026-10-25T02:00"), 3) == [
        "2026-10-25T02:30+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T02:30+01:00",
    ]


def test_in_the_second_of_two_equal_hours_nothing_of_the_first_is_due_again() -> None:
    assert following("45 2 * * *", at("2026-10-25T02:30", fold=1)) == ["2026-10-26T02:45+01:00"]


def test_missed_times_are_counted_up_to_a_thousand() -> None:
    due = at("2026-11-27T12:00")

    assert missed(Schedule(cron="0 * * * *"), due, due) == 0
    assert missed(Schedule(cron="0 * * * *"), due, due + 3 * 3_600) == 3
    assert missed(Schedule(cron="* * * * *"), due, due + 30 * 86_400) == 1_000


@pytest.mark.parametrize(
    ("cron", "zone", "pointer"),
    [
        ("0 3 * *", "UTC", "/cron"),
        ("0 0 3 * * *", "UTC", "/cron"),
        ("@daily", "UTC", "/cron"),
        ("61 3 * * *", "UTC", "/cron"),
        ("0 3 31 2 *", "UTC", "/cron"),
        ("0 3 * * SOMEDAY", "UTC", "/cron"),
        ("0 3 * * *", "Europe/Berlim", "/timezone"),
        ("0 3 * * *", "Europe", "/timezone"),
        ("0 3 * * *", "../../etc/passwd", "/timezone"),
        ("0 3 * * *", "", "/timezone"),
    ],
)
def test_what_is_no_schedule_is_pointed_at(cron: str, zone: str, pointer: str) -> None:
    assert [found for found, _said in faults(Schedule(cron=cron, timezone=zone), 0)] == [pointer]


def test_both_faults_are_told() -> None:
    assert [found for found, _said in faults(Schedule(cron="x * * * *", timezone="x"), 0)] == ["/timezone", "/cron"]


@settings(deadline=None)
@given(st.lists(st.text("0123456789*/-,#LW MONJAN²", max_size=6), min_size=5, max_size=5))
def test_any_text_is_a_schedule_or_has_a_fault(fields: list[str]) -> None:
    schedule = Schedule(cron=" ".join(fields), timezone="Europe/Berlin")

    if not list(faults(schedule, at("2026-11-27T12:00"))):
        assert next_after(schedule, at("2026-11-27T12:00"))
