"""How long candidates may train: estimates from counts alone, so that a plan is the same on every machine.

The figures are those of two cores of a server processor. They decide how a budget is shared out, not when it ends: the
search looks at a clock for that.
"""

import math

from app.contracts.goal import Goal
from app.contracts.survey import Survey
from workers.planning.ladder import Rung

_MACS_PER_S = 6e10
_STEP_S, _WEIGHT_S = 5e-3, 2e-8  # of a training step: around it, and for each weight
_BATCH = 32
_PASSES = 3  # of a step, in forward ones
_FULL_EPOCHS, _FULL_ROWS, _BY_ROWS = 12.0, 4400, 0.25  # fewer rows are seen more often, more rows less often
_LEAST_EPOCHS, _MOST_EPOCHS = 0.25, 60.0
_CANDIDATE_SHARE = 1 / 6  # of the budget, for the training of one candidate at full length
_FIRST_SHARE = 0.5  # of the budget, for the first round
_LEAST_PASSES, _LEAST_STEPS = 5.0, 700  # at full length, of all trainings that make up for what was left out
_OTHER_ROWS = 0.25  # to validate and test on, for each to train on; the original answered them once
SHORT = 0.25  # of the full length, in the first round


def asking_s(survey: Survey) -> float:
    """Return what the original takes to answer all rows to train on, once for all candidates."""
    return survey.rows * (survey.macs or 0) / _MACS_PER_S


def overhead_s(survey: Survey) -> float:
    """Return what a candidate takes beside its training: packing, races, measuring the original on other rows."""
    return 5.0 + _OTHER_ROWS * asking_s(survey)


def epochs(survey: Survey, goal: Goal, rung: Rung, length: float) -> float:
    """Return the epochs of each training step of a rung; `length` 1 is as long as one candidate may take."""
    if not rung.trained:
        return 0.0
    wanted = _FULL_EPOCHS * length * math.pow(_FULL_ROWS / max(1, survey.rows), _BY_ROWS)
    allowed = goal.budget_s * _CANDIDATE_SHARE * length / (epoch_s(survey, rung) * len(rung.trained))
    found = min(max(min(wanted, allowed), _LEAST_EPOCHS), _MOST_EPOCHS)
    return round(4 * found) / 4 if found >= 1 else round(found, 2)


def worthwhile(survey: Survey, goal: Goal, rung: Rung) -> bool:
    """Whether the budget lets a rung train long enough for its first round to tell anything."""
    found = epochs(survey, goal, rung, 1.0) * len(rung.trained)
    return found >= _LEAST_PASSES or found * survey.rows >= _LEAST_STEPS * _BATCH


def epoch_s(survey: Survey, rung: Rung) -> float:
    """Return the seconds of one epoch of a rung."""
    computing = _BATCH * _PASSES * (survey.macs or 0) * rung.macs / _MACS_PER_S
    step = _STEP_S + _WEIGHT_S * survey.parameters * rung.weights + computing
    return max(1, survey.rows // _BATCH) * step


def affordable(survey: Survey, goal: Goal) -> int:
    """Return how many candidates that train the first round may have, at least one."""
    one = overhead_s(survey) + SHORT * goal.budget_s * _CANDIDATE_SHARE
    return max(1, int((_FIRST_SHARE * goal.budget_s - asking_s(survey)) / one))
