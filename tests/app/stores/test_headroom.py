"""Limits hold exactly where they are near, and cost no counting where they are far."""

from app.stores.headroom import Headroom


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


class Counted:
    """Counts what is taken, and how often it was asked."""

    def __init__(self, clock: Clock) -> None:
        self.taken, self.asked, self.headroom = 0, 0, Headroom(clock)

    def take(self, limit: int, name: str = "one") -> bool:
        taken = self.headroom.take(name, limit, self.count)
        self.taken += taken
        return taken

    def count(self) -> int:
        self.asked += 1
        return self.taken


def test_limit_is_exact_when_one_process_takes() -> None:
    counted = Counted(Clock())

    assert [counted.take(100) for _ in range(102)] == [True] * 100 + [False] * 2


def test_little_is_counted_when_much_is_free() -> None:
    counted = Counted(Clock())

    assert all(counted.take(100_000) for _ in range(1_000))
    assert counted.asked == 1


def test_it_is_counted_again_after_a_second() -> None:
    clock = Clock()
    counted = Counted(clock)
    counted.take(1_000)
    counted.taken, clock.at = 1_000, 1.1  # others took all of it

    assert not counted.take(1_000)


def test_one_limit_says_nothing_of_another() -> None:
    counted = Counted(Clock())
    counted.take(1_000)
    counted.taken = 5

    assert not counted.take(5, "other")


def test_other_processes_take_no_more_than_the_limit_together() -> None:
    counted, clock = Counted(Clock()), Clock()
    several = [Headroom(clock) for _ in range(10)]

    for number in range(3_000):
        counted.taken += several[number % 10].take("one", 2_000, counted.count)

    assert counted.taken == 2_000
