import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.compute.graph.repeats import Repeat, find_repeats


def found(items: str, leading: str = "") -> Repeat | None:
    return find_repeats(items, [item.isupper() for item in items], [item in leading for item in items])


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("AbAbAb", Repeat(0, 6, 2)),
        ("xAAAy", Repeat(1, 4, 1)),
        ("xAbcAbcAbz", Repeat(1, 7, 3)),
        ("ABCD", None),
        ("xyxy", None),
        ("", None),
        ("A", None),
    ],
)
def test_best_repeat_is_found_when_there_is_one(items: str, expected: Repeat | None) -> None:
    assert found(items) == expected


def test_pattern_starts_at_a_leading_item_when_that_loses_no_copy() -> None:
    # A norm before the first layer looks like the end of a layer.
    assert found("nAnAnAn", leading="A") == Repeat(1, 7, 2)


def test_leading_items_matter_more_than_worthy_ones_when_cut() -> None:
    assert found("bAcbAcbAcbA", leading="c") == Repeat(2, 11, 3)


def test_copies_matter_more_than_leading_items_when_they_conflict() -> None:
    assert found("nAnA", leading="A") == Repeat(0, 4, 2)


@given(st.text("AbC", max_size=24))
def test_every_copy_is_equal_when_found(items: str) -> None:
    repeat = found(items)
    if repeat is None:
        return
    copies = {items[start : start + repeat.period] for start in range(repeat.start, repeat.end, repeat.period)}

    assert len(copies) == 1
    assert repeat.end - repeat.start >= 2 * repeat.period
