"""What a search does next: candidates to run, or its end. Decided from what is stored alone, so any worker may."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.contracts.goal import Goal
from app.contracts.job import JobCreate, JobState, Limits
from app.contracts.problem import Problem
from app.contracts.tasks import Failed
from app.errors import Conflict, GuardNotMet, ServiceFault, TimeLimitExceeded
from app.problems import problem_of
from app.resources import Resources
from app.stores import inputs, results, searches
from app.stores.records import Transaction
from app.stores.work import Claim
from workers.kinds.base import Record
from workers.kinds.search import goal_of
from workers.planning import conclusion, rounds
from workers.planning.trying import Candidate, Tried

_DAY_S = 86_400
_TOO_LATE = "The search's time was up before it was measured; raise goal.budget_s to have it measured."
_CANCELLED = "It was cancelled before it was measured."


@dataclass(frozen=True)
class Round:
    """Candidates to put into the queue; none where some that are there already have not ended."""

    planned: list[searches.Planned]


def decide(resources: Resources, held: Claim) -> Round | Record | Failed:
    """Return the next round, or how the search ends: with what to record, or with why nothing is recommended."""
    with resources.database.reading() as tx:
        job = inputs.job_request(tx, held.tenant, held.id)
        known = searches.standing(tx, held.id)
    if any(not one.state.final for one in known.entered):
        return Round([])
    goal, tried = goal_of(job), [_tried(one, over=known.over) for one in known.entered]
    following = rounds.next_round(known.survey, goal, job.task, tried)
    if following and not known.over:
        return Round([_planned(job, goal, candidate) for candidate in following])
    # What was cancelled because the time was up was planned and not tried, though nothing may be planned after it.
    cut = known.over and (following or any(one.state == JobState.CANCELLED for one in known.entered))
    return _end(held, job, known, tried, "budget" if cut else "plan")


def _end(
    held: Claim, job: JobCreate, known: searches.Standing, tried: Sequence[Tried], ended_by: Literal["plan", "budget"]
) -> Record | Failed:
    search = conclusion.conclude(known.survey, goal_of(job), job.task, tried, ended_by)
    chosen = search.recommended or next(iter(search.nearest), None)
    best = next((one for one in tried if one.job == chosen), None)
    told = {"search": search, "sensitivity": known.survey.sensitivity}
    report = best.report.model_copy(update=told) if best and best.report else None
    if search.recommended is None:
        return Failed(problem=problem_of(GuardNotMet(search.why)), report=report)
    if best is None or best.artifact is None or report is None:
        raise ServiceFault("The search recommends a candidate that was not measured.")
    outcome, artifact = report, best.artifact

    def record(tx: Transaction) -> None:
        results.record_outcome(tx, held.id, outcome, artifact)

    return record


def _planned(job: JobCreate, goal: Goal, candidate: Candidate) -> searches.Planned:
    """Return a candidate's job: the search's own request with a recipe, without what concerns the search alone."""
    # The search's time is counted by its budget; until then its candidates may wait.
    limits = Limits(max_run_s=job.limits.max_run_s, max_queue_s=max(_DAY_S, goal.budget_s))
    request = JobCreate(
        model=job.model,
        dataset=job.dataset,
        task=job.task,
        seed=job.seed,
        recipe=candidate.recipe,
        limits=limits,
        device=job.device,
        tags=job.tags,
    )
    return searches.Planned(request, candidate.name, candidate.round, candidate.predicted_p50_ms)


def _tried(entered: searches.Entered, *, over: bool) -> Tried:
    planned, recipe = entered.planned, entered.planned.request.recipe
    if recipe is None:
        raise ServiceFault("A candidate has no recipe.")
    candidate = Candidate(planned.name, recipe, planned.round, planned.predicted_p50_ms)
    if entered.state == JobState.SUCCEEDED:
        return Tried(candidate, entered.job, entered.report, entered.artifact)
    return Tried(candidate, entered.job, error=entered.error or _without_error(over=over))


def _without_error(*, over: bool) -> Problem:
    return problem_of(TimeLimitExceeded(_TOO_LATE) if over else Conflict(_CANCELLED))
