"""The plan of a search: valid recipes for whatever a survey says, few rounds, the same for the same figures."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts.goal import Goal
from app.contracts.steps.prune_layers import PruneLayers
from app.errors import TechniqueNotApplicable
from app.problems import problem_of
from tests.workers.planning.made_up import image_survey, survey, tried
from workers.planning.effort import epoch_s, epochs
from workers.planning.judging import point
from workers.planning.ladder import rungs
from workers.planning.rounds import next_round
from workers.planning.trying import Candidate, Tried

SIZE, LATENCY = Goal(), Goal(minimize="latency", max_drop=0.005)
COUNTS = st.integers(0, 12)


def names(candidates: list[Candidate]) -> list[str]:
    return [each.name for each in candidates]


def untrained(candidates: list[Candidate]) -> list[str]:
    return [each.name for each in candidates if not any(step.may_train for step in each.recipe.steps)]


def trained(candidates: list[Candidate]) -> list[str]:
    return [name for name in names(candidates) if name not in untrained(candidates)]


def passes(candidate: Candidate) -> float:
    return sum(getattr(step, "epochs", None) or 0 for step in candidate.recipe.steps)


@given(
    counts=st.fixed_dictionaries(
        dict.fromkeys(("layers", "tables", "neurons", "heads", "channels", "batch_norms"), COUNTS)
    ),
    rows=st.sampled_from([0, 20, 4400, 2_000_000]),
    macs=st.sampled_from([None, 0, 1000, 10**12]),
    labelled=st.booleans(),
    goal=st.builds(
        Goal,
        device=st.sampled_from(["cpu-server", "cpu-edge", "mobile", "gpu"]),
        minimize=st.sampled_from(["size", "latency", "memory"]),
        budget_s=st.sampled_from([60, 1800, 86_400]),
    ),
    task=st.sampled_from(["classification", "regression", "match"]),
)
def test_every_survey_gets_valid_recipes_and_the_plain_ones_always(
    counts: dict[str, int], rows: int, macs: int | None, labelled: bool, goal: Goal, task: Any
) -> None:
    found = survey(**counts, rows=rows, macs=macs, labelled=labelled)
    first = next_round(found, goal, task, [])
    half, low = "half precision", "half precision" if goal.device == "gpu" else "int8"
    assert untrained(first) == list(
        dict.fromkeys(["stored smaller", *([half] if goal.minimize != "latency" else []), low])
    )
    assert len(set(names(first))) == len(first) == len({each.recipe.model_dump_json() for each in first})
    assert bool(trained(first)) == any(rung.trained for rung in rungs(found, goal, task))
    for step in (step for each in first for step in each.recipe.steps):
        assert not step.needs_labels
        assert task != "match" or getattr(step, "alpha", 0.0) == 0.0
    assert next_round(found, goal, task, []) == first


def test_a_stack_loses_layers_first_and_then_width() -> None:
    found = trained(next_round(survey(), SIZE, "classification", []))
    assert found == ["3 layers, narrower, ternary", "2 layers, narrower, ternary", "1 layer, narrower, ternary"]
    assert "1 layer, narrower, int8" in names(next_round(survey(), LATENCY, "classification", []))


def test_a_stack_that_has_no_width_to_lose_loses_layers_alone() -> None:
    found = trained(next_round(survey(neurons=0, heads=0, macs=10_000_000), SIZE, "classification", []))
    assert found == ["3 layers, ternary", "2 layers, ternary", "1 layer, ternary"]


def test_a_stack_of_convolutions_is_tried_with_all_its_layers_first() -> None:
    residual = image_survey(layers=7, neurons=0, channels=26, macs=16_000_000, parameters=133_000, rows=1120)
    found = trained(next_round(residual, SIZE, "classification", []))
    assert found[:2] == ["64 shared values", "16 shared values"]
    assert "ternary" in found
    assert found[-1] == "1 layer, ternary"
    fast = trained(next_round(residual, LATENCY, "classification", []))
    assert (fast[0], fast[-1]) == ("75% of the width", "1 layer, int8")


def test_a_device_decides_the_number_format() -> None:
    for minimize in ("size", "latency"):
        for found in (survey(), image_survey()):
            for device in ("gpu", "cpu-edge"):
                goal = Goal(device=device, minimize=minimize)
                steps = [step for each in next_round(found, goal, "classification", []) for step in each.recipe.steps]
                lowered = [step for step in steps if step.technique == "quantize_int8"]
                assert bool(lowered) == (device == "cpu-edge")
                assert all(getattr(step, "reduce_range", False) for step in lowered)


def test_training_takes_no_more_than_its_share_of_the_budget() -> None:
    found = survey(macs=10**10)
    for rung in rungs(found, SIZE, "classification"):
        spent = epochs(found, SIZE, rung, 1.0) * epoch_s(found, rung) * len(rung.trained)
        least = 0.25 * epoch_s(found, rung) * len(rung.trained)
        assert spent <= max(SIZE.budget_s / 6 * 1.2, least)


def test_a_tight_budget_tries_fewer_rungs_and_the_boldest_among_them() -> None:
    assert trained(next_round(survey(), Goal(budget_s=300), "classification", [])) == ["1 layer, narrower, ternary"]


def first_round(accuracies: dict[str, float], sizes: dict[str, int]) -> list[Tried]:
    asked = next_round(survey(), SIZE, "classification", [])
    return [tried(each, sizes.get(each.name, 50_000_000), accuracies.get(each.name, 0.98)) for each in asked]


SIZES = {
    "3 layers, narrower, ternary": 900_000,
    "2 layers, narrower, ternary": 800_000,
    "1 layer, narrower, ternary": 450_000,
}


def test_the_smallest_that_may_recover_are_trained_in_full() -> None:
    done = first_round({"1 layer, narrower, ternary": 0.961, "2 layers, narrower, ternary": 0.965}, SIZES)
    second = next_round(survey(), SIZE, "classification", done)
    assert names(second) == ["2 layers, narrower, ternary", "1 layer, narrower, ternary"]  # the closest first
    assert {each.round for each in second} == {1}
    short = next(each for each in done if each.candidate.name == second[0].name)
    assert passes(second[0]) > 3 * passes(short.candidate) > 0


def test_what_lost_too_much_is_not_trained_again() -> None:
    done = first_round({"1 layer, narrower, ternary": 0.955, "2 layers, narrower, ternary": 0.96}, SIZES)
    second = next_round(survey(), SIZE, "classification", done)
    assert names(second) == ["2 layers, narrower, ternary", "3 layers, narrower, ternary"]


def test_where_all_have_lost_too_much_the_closest_two_are_trained_in_full() -> None:
    lost = {"1 layer, narrower, ternary": 0.7, "2 layers, narrower, ternary": 0.8, "3 layers, narrower, ternary": 0.9}
    second = next_round(survey(), SIZE, "classification", first_round(lost, SIZES))
    assert names(second) == ["3 layers, narrower, ternary", "2 layers, narrower, ternary"]


def test_what_learns_too_slowly_for_the_budget_is_left_out() -> None:
    patient = names(next_round(survey(), Goal(budget_s=7200), "classification", []))
    assert "3 layers, ternary" in patient
    assert "3 layers, ternary" not in names(next_round(survey(), SIZE, "classification", []))


def test_a_failed_candidate_is_not_trained_again() -> None:
    done = first_round({}, SIZES)
    error = problem_of(TechniqueNotApplicable("no layers"))
    broken = [
        Tried(each.candidate, each.job, error=error) if "1 layer," in each.candidate.name else each for each in done
    ]
    second = next_round(survey(), SIZE, "classification", broken)
    assert names(second) == ["2 layers, narrower, ternary", "3 layers, narrower, ternary"]


def test_what_would_be_better_than_the_best_trains_longer_and_longer_the_closest_first() -> None:
    done = first_round({"1 layer, narrower, ternary": 0.961, "2 layers, narrower, ternary": 0.965}, SIZES)
    second = next_round(survey(), SIZE, "classification", done)
    done += [tried(second[0], 800_000, 0.96), tried(second[1], 450_000, 0.94)]
    third = next_round(survey(), SIZE, "classification", done)
    assert names(third) == ["2 layers, narrower, ternary", "1 layer, narrower, ternary"]
    assert all(passes(long) > 1.9 * passes(full) for long, full in zip(third, second, strict=True))
    done += [tried(third[0], 800_000, 0.96), tried(third[1], 450_000, 0.94)]
    # The three layers meet the goal from the first round on, and nothing is left that would be smaller.
    assert next_round(survey(), SIZE, "classification", done) == []


def finals(done: list[Tried]) -> list[Tried]:
    """The second round, in which all meet the goal."""
    return [tried(one, SIZES[one.name], 0.975) for one in next_round(survey(), SIZE, "classification", done)]


def test_what_costs_more_than_the_best_is_left_alone() -> None:
    done = first_round({"3 layers, narrower, ternary": 0.961, "2 layers, narrower, ternary": 0.965}, SIZES)
    done += finals(done)
    assert next_round(survey(), SIZE, "classification", done) == []


def test_what_was_dropped_for_losing_too_much_has_its_turn_when_time_is_left() -> None:
    done = first_round({"1 layer, narrower, ternary": 0.95, "2 layers, narrower, ternary": 0.965}, SIZES)
    done += finals(done)
    assert "1 layer, narrower, ternary" not in {each.candidate.name for each in done if each.candidate.round == 1}
    third = next_round(survey(), SIZE, "classification", done)
    assert names(third) == ["1 layer, narrower, ternary"]
    short = next(each.candidate for each in done if each.candidate.name == third[0].name)
    assert passes(third[0]) > 3 * passes(short)


def test_what_lost_far_too_much_is_not_worth_the_time_that_is_left() -> None:
    done = first_round({"1 layer, narrower, ternary": 0.9, "2 layers, narrower, ternary": 0.965}, SIZES)
    done += finals(done)
    assert next_round(survey(), SIZE, "classification", done) == []


def test_no_training_makes_a_file_smaller() -> None:
    goal = Goal(max_size_bytes=100)
    asked = next_round(survey(), goal, "classification", [])
    done = [tried(each, SIZES.get(each.name, 50_000_000), 0.965) for each in asked]
    second = next_round(survey(), goal, "classification", done)
    done += [tried(each, SIZES[each.name], 0.965) for each in second]
    assert next_round(survey(), goal, "classification", done) == []


def test_the_latency_of_a_later_round_is_foretold_from_the_same_shape() -> None:
    asked = next_round(survey(), LATENCY, "classification", [])
    done = [tried(each, 4_000_000, 0.979, faster=60.0 if "1 layer" in each.name else 2.0) for each in asked]
    second = next_round(survey(), LATENCY, "classification", done)
    assert second[0].name == "1 layer, narrower, int8"
    assert second[0].predicted_p50_ms == pytest.approx(0.1)


def test_an_original_that_others_slow_down_spoils_the_first_round_alone() -> None:
    busy = survey(p50_ms=24.0)
    asked = next_round(busy, LATENCY, "classification", [])
    done = [
        tried(each, 4_000_000, 0.979, faster=90.0, original_ms=9.0)
        if "1 layer" in each.name
        else tried(each, 4_000_000, 0.979, faster=2.0)
        for each in asked
    ]
    second = next_round(busy, LATENCY, "classification", done)
    assert second[0].predicted_p50_ms == pytest.approx(0.1)


@pytest.mark.parametrize("busy", [2.0, 0.5])
def test_one_busy_moment_does_not_foretell_what_multiplies_as_much_as_the_original(busy: float) -> None:
    found = image_survey()
    asked = next_round(found, SIZE, "classification", [])
    done = [
        tried(each, 4_000_000, 0.979, original_ms=busy * found.p50_ms)
        if each.name == "ternary"
        else tried(each, 4_000_000, 0.5, original_ms=found.p50_ms)
        for each in asked
    ]
    second = {each.name: each for each in next_round(found, SIZE, "classification", done)}
    assert second["ternary"].predicted_p50_ms == pytest.approx(found.p50_ms)


def test_the_latency_of_the_first_round_is_foretold_from_what_is_left_and_the_number_format() -> None:
    first = {each.name: each for each in next_round(survey(low_faster=2.0), LATENCY, "classification", [])}
    assert first["stored smaller"].predicted_p50_ms == pytest.approx(6.0)
    assert first["int8"].predicted_p50_ms == pytest.approx(3.0)
    assert first["3 layers, narrower, int8"].predicted_p50_ms == pytest.approx(0.525)
    small = {each.name: each for each in next_round(survey(low_faster=2.0), SIZE, "classification", [])}
    assert small["half precision"].predicted_p50_ms == pytest.approx(6.0)  # no processor calculates with it
    without = {each.name: each for each in next_round(survey(), LATENCY, "classification", [])}
    assert without["int8"].predicted_p50_ms is None


def test_what_stays_of_a_call_however_narrow_a_network_is_stays_in_what_is_foretold() -> None:
    # A sixteenth of the multiplications took 0.04 of 0.13 ms: a part of 0.034 ms is no multiplication.
    found = image_survey(p50_ms=0.13, narrow_faster=0.13 / 0.04, low_faster=1.25)
    first = {each.name: each.predicted_p50_ms for each in next_round(found, LATENCY, "classification", [])}
    assert first["25% of the width"] == pytest.approx(0.04)
    assert first["50% of the width"] == pytest.approx(0.058)
    assert first["75% of the width, int8"] == pytest.approx(0.034 + (0.13 / 1.25 - 0.034) * 0.5625)
    assert first["stored smaller"] == pytest.approx(0.13)
    slower = image_survey(p50_ms=0.13, narrow_faster=0.9)
    names = {each.name: each.predicted_p50_ms for each in next_round(slower, LATENCY, "classification", [])}
    assert names["25% of the width"] == pytest.approx(0.13)


def test_an_image_network_ends_in_two_rounds() -> None:
    found, done, turns = image_survey(), list[Tried](), 0
    while asked := next_round(found, SIZE, "classification", done):
        done += [tried(each, 100_000, 0.978) for each in asked]
        turns += 1
    assert turns == 2
    assert all(point(found, SIZE, "classification", each).meets for each in done)


def test_layers_go_in_the_order_that_the_survey_found() -> None:
    first = next_round(survey(removal=[5, 3, 4, 6, 2]), SIZE, "classification", [])
    removed = {each.name: step.remove for each in first for step in each.recipe.steps if isinstance(step, PruneLayers)}
    assert removed["3 layers, narrower, ternary"] == [3, 4, 5]
    assert removed["1 layer, narrower, ternary"] == [2, 3, 4, 5, 6]
