"""What a search recommends, and what it says where nothing meets the goal."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts.goal import Goal
from app.contracts.recipe import Recipe
from app.contracts.report import LayerDamage
from app.contracts.search import Search
from tests.modelpress.publishing import causes
from tests.workers.planning.made_up import survey, tried
from workers.planning.conclusion import conclude, front
from workers.planning.judging import point
from workers.planning.trying import Candidate, Tried

RECIPE = Recipe.model_validate({"steps": [{"technique": "share_weights"}]})
GOAL = Goal(max_drop=0.01)


def candidate(name: str, turn: int = 0) -> Candidate:
    return Candidate(name, RECIPE, turn)


def concluded(goal: Goal, *done: Tried) -> Search:
    return conclude(survey(), goal, "classification", done, "plan")


def name_of(found: Search, job: str | None) -> str | None:
    return next((each.name for each in found.points if each.job == job), None)


def test_the_smallest_that_meets_the_goal_is_recommended_and_what_goes_further_is_named() -> None:
    found = concluded(
        GOAL,
        tried(candidate("careful"), 9_000_000, 0.98),
        tried(candidate("bold"), 900_000, 0.972, faster=20),
        tried(candidate("too bold"), 450_000, 0.95),
    )
    assert name_of(found, found.recommended) == "bold"
    assert (
        "“bold” is the smallest of 2 candidates that meet the goal: 100.0 times smaller, 20.0 times as fast"
        in found.why
    )
    assert "0.80 points lower" in found.why
    assert "“too bold” would go further, but accuracy falls by 3.00 points, 1.00 points are allowed" in found.why
    best = next(each for each in found.points if each.job == found.recommended)
    assert best.validation_drop == pytest.approx(0.008)
    assert best.test_drop == pytest.approx(0.013)
    assert (found.original.validation, found.original.test) == (0.98, 0.975)


@pytest.mark.parametrize(("longer", "wanted"), [(433_000, 1), (440_000, 0)])
def test_of_files_of_about_one_size_the_one_that_loses_least_is_recommended(longer: int, wanted: int) -> None:
    done = [tried(candidate("bold"), 432_000, 0.971), tried(candidate("bold", 1), longer, 0.979)]
    assert concluded(GOAL, *done).recommended == done[wanted].job


def test_its_own_shorter_training_is_not_what_goes_further() -> None:
    found = concluded(
        Goal(minimize="latency"),
        tried(candidate("bold"), 900_000, 0.95, faster=25),
        tried(candidate("bold", 1), 900_000, 0.975, faster=20),
    )
    assert name_of(found, found.recommended) == "bold"
    assert found.why.endswith("No other that was measured goes further.")


@pytest.mark.parametrize(
    ("goal", "wanted"),
    [
        (Goal(minimize="size"), "small"),
        (Goal(minimize="latency"), "quick"),
        (Goal(minimize="latency", max_size_bytes=2_000_000), "small"),
        (Goal(minimize="size", max_p50_ms=0.2), "quick"),
        (Goal(minimize="size", max_drop=0.001), "careful"),
        (Goal(minimize="size", max_recall_drop=0.02), "careful"),
    ],
)
def test_each_bound_counts(goal: Goal, wanted: str) -> None:
    found = concluded(
        goal,
        tried(candidate("small"), 1_000_000, 0.975, faster=5, recalls=[0.98, 0.90]),
        tried(candidate("quick"), 3_000_000, 0.975, faster=60, recalls=[0.98, 0.90]),
        tried(candidate("careful"), 9_000_000, 0.98, faster=2, recalls=[0.98, 0.97]),
    )
    assert name_of(found, found.recommended) == wanted


def test_of_equal_cost_the_one_that_loses_least_and_then_the_longest_trained_is_taken() -> None:
    short, long = candidate("bold"), candidate("bold", turn=1)
    for accuracies, wanted in (((0.975, 0.98), 1), ((0.98, 0.975), 0), ((0.98, 0.98), 1)):
        done = [tried(each, 900_000, accuracy) for each, accuracy in zip((short, long), accuracies, strict=True)]
        found = concluded(GOAL, *done)
        assert next(each.round for each in found.points if each.job == found.recommended) == wanted


def test_noise_in_a_time_does_not_decide() -> None:
    one, other = candidate("one"), candidate("other")
    goal = Goal(minimize="latency")
    for faster in (19.0, 21.0):
        found = concluded(goal, tried(one, 2_000_000, 0.98, faster=faster), tried(other, 1_000_000, 0.98, faster=20.0))
        assert name_of(found, found.recommended) == "other"


def test_noise_in_a_time_does_not_change_the_front() -> None:
    for faster in (19.0, 21.0):
        done = [
            tried(candidate("one"), 2_000_000, 0.97, faster=faster),
            tried(candidate("other"), 1_000_000, 0.98, 20.0),
        ]
        points = [point(survey(), GOAL, "classification", each) for each in done]
        assert [each.name for each in front(points)] == ["other"]


def test_a_goal_that_nothing_meets_says_what_would_be_needed() -> None:
    worst = LayerDamage(tensor="head.weight", operator="Gemm", parameters=10, setting="ternary", damage=0.4)
    done = [tried(candidate("near"), 2_000_000, 0.96), tried(candidate("far"), 1_000_000, 0.7)]
    goal = Goal(max_drop=0.01, max_size_bytes=1_500_000)
    found = conclude(survey(sensitivity=[worst]), goal, "classification", done, "budget")
    assert found.recommended is None
    assert [name_of(found, job) for job in found.nearest] == ["near", "far"]
    assert "“near” comes closest, but accuracy falls by 2.00 points" in found.why
    assert "allow a drop of 2.00 points and 2,000,000 bytes" in found.why
    assert "Most sensitive is head.weight (Gemm)." in found.why
    assert found.ended_by == "budget"


def test_the_class_and_the_layer_that_cost_most_are_named_where_the_closest_was_explained() -> None:
    near = tried(candidate("near"), 2_000_000, 0.96)
    assert near.report is not None
    explained = near.report.model_copy(update={"guard_causes": causes()})
    found = concluded(GOAL, replace(near, report=explained), tried(candidate("far"), 1_000_000, 0.7))
    lost, layer = causes().classes[0], max(causes().layers, key=lambda each: each.gain)
    assert f"in class {lost.name}, whose recall falls from {lost.before:.1%} to {lost.after:.1%}" in found.why
    assert f"{layer.tensor} costs most: as it was, it would give back {100 * layer.gain:.2f} points" in found.why


def test_without_a_measured_candidate_the_errors_are_pointed_at() -> None:
    found = concluded(GOAL, Tried(candidate("broken"), f"job_{0:026d}"))
    assert found.recommended is None
    assert found.nearest == []
    assert "No candidate could be measured" in found.why


FIGURES = st.tuples(
    st.integers(1, 4).map(lambda size: size * 1_000_000), st.sampled_from([0.9, 0.95, 0.98]), st.integers(1, 4)
)


@given(st.lists(FIGURES, min_size=1, max_size=8))
def test_the_front_is_what_none_beats(figures: list[tuple[int, float, int]]) -> None:
    done = [tried(candidate(f"candidate {place}"), *each) for place, each in enumerate(figures)]
    points = [point(survey(), GOAL, "classification", each) for each in done]
    kept = {each.name for each in front(points)}
    for place, (size, accuracy, faster) in enumerate(figures):
        beaten = any(
            other[0] <= size and other[1] >= accuracy and other[2] >= faster and other != (size, accuracy, faster)
            for other in figures
        )
        assert (f"candidate {place}" in kept) == (not beaten)
