"""When a schedule is due: cron expressions in a time zone. Knows no store, no trigger and no job.

Daylight saving goes as in Debian's cron (cronsim): a run at a time that a spring day leaves out comes right after the
gap, a run at a time that an autumn day has twice comes at the first; what repeats by the hour or minute does so in
real time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from app.contracts.trigger import Schedule

_FIELDS = 5
_MOST_COUNTED = 1_000  # missed times that are counted after an outage
Fault = tuple[str, str]


def faults(schedule: Schedule, now: float) -> Iterator[Fault]:
    """Yield a pointer into the schedule and what is wrong, for each part that cannot work; `now` in Unix seconds."""
    known = schedule.timezone in _zones()
    if not known:
        yield "/timezone", "there is no such time zone; names are those of IANA, such as Europe/Berlin"
    if len(schedule.cron.split()) != _FIELDS:
        yield "/cron", "an expression has five fields: minute, hour, day of the month, month, day of the week"
        return
    try:
        first = next_after(schedule if known else Schedule(cron=schedule.cron), now)
    except CronSimError as error:
        yield "/cron", f"this is no cron expression: {error}"
        return
    if first is None:
        yield "/cron", "there is no such day within the next 50 years"


def next_after(schedule: Schedule, seconds: float) -> float | None:
    """Return the first due time after `seconds`, both in Unix seconds; None when there is none within 50 years.

    Raises CronSimError for an expression that `faults` refuses.
    """
    return next(_after(schedule, seconds), None)


def missed(schedule: Schedule, due: float, now: float) -> int:
    """Return how many due times have passed after `due` up to `now`, in Unix seconds; counts no further than 1,000."""
    passed = 0
    for at in _after(schedule, due):
        if at > now or passed == _MOST_COUNTED:
            break
        passed += 1
    return passed


def _after(schedule: Schedule, seconds: float) -> Iterator[float]:
    began = datetime.fromtimestamp(seconds, UTC if schedule.timezone == "UTC" else ZoneInfo(schedule.timezone))
    # In the second of two equal hours the library, which counts on the clock on the wall, names times of the first.
    yield from (at for found in CronSim(schedule.cron, began) if (at := found.timestamp()) > seconds)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
