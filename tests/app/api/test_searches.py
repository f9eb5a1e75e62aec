"""Jobs with a goal over HTTP: submitted, refused, listed with their candidates, cancelled, kept from other tenants."""

import hashlib
from typing import Any

import httpx
import pytest

from app.contracts.job import JobCreate, JobState
from app.contracts.survey import Survey
from app.contracts.tasks import WorkKind
from app.errors import GuardNotMet
from app.problems import problem_of
from app.resources import Broker, Resources
from app.services import jobs as service
from app.stores import searches, work
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import job_body, ready_dataset, ready_model, submitted_job
from tests.app.tenants import OURS, THEIRS, Tenants
from tests.stand_in import stand_in_job

GOAL = {"minimize": "latency", "max_drop": 0.02, "max_size_bytes": 1000, "budget_s": 600}
RECIPE = {"steps": [{"technique": "share_weights"}]}


async def goal_body(client: httpx.AsyncClient, worker: ActingWorker, **changes: Any) -> dict[str, Any]:
    body = {"model": await ready_model(client, worker), "dataset": await ready_dataset(client, worker), "goal": GOAL}
    return {**body, **changes}


async def submitted(client: httpx.AsyncClient, worker: ActingWorker, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/v1/jobs", json=await goal_body(client, worker, **changes))
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def let_go(worker: ActingWorker, job: dict[str, Any], count: int = 2) -> list[str]:
    """Survey and enter candidates, as a worker does; return their ids."""
    held = worker.claim(job["id"])
    request = JobCreate.model_validate({"model": job["model"], "dataset": job["dataset"], "recipe": RECIPE})
    with worker.resources.database.transaction() as tx:
        searches.keep_survey(tx, job["id"], Survey.model_validate(stand_in_job.SURVEY), 600)
        bells = searches.let_go(tx, held, [searches.Planned(request, str(number), 0) for number in range(count)])
    assert bells is not None
    return [bell.id for bell in bells]


async def state(client: httpx.AsyncClient, job_id: str) -> str:
    return str((await client.get(f"/v1/jobs/{job_id}")).json()["state"])


async def test_goal_is_accepted_as_a_search(
    client: httpx.AsyncClient, worker: ActingWorker, resources: Resources
) -> None:
    job = await submitted(client, worker)

    assert (job["recipe"], job["parent"], job["state"]) == (None, None, "queued")
    assert {name: job["goal"][name] for name in GOAL} == GOAL
    assert (await client.get(f"/v1/jobs/{job['id']}")).json() == job
    with resources.database.reading() as tx:
        row = work.read(tx, job["id"])
    assert row is not None
    assert row.kind == WorkKind.SEARCH


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": RECIPE}, "one of the two"),
        ({"goal": None}, "one of the two"),
        ({"guard": {"metric": "accuracy"}}, "leave `guard` out"),
    ],
)
async def test_request_that_says_too_much_or_too_little_is_refused(
    client: httpx.AsyncClient, worker: ActingWorker, changes: dict[str, Any], said: str
) -> None:
    answer = await client.post("/v1/jobs", json=await goal_body(client, worker, **changes))

    assert answer.status_code == 422
    assert said in answer.text


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"dataset": None}, "/dataset"),
        ({"goal": {"metric": "r2"}}, "/goal/metric"),
        ({"goal": {"metric": "r2"}, "task": "match"}, "/goal/metric"),
        ({"goal": {"metric": "accuracy"}, "task": "regression"}, "/goal/metric"),
        ({"goal": {"metric": "macro_f1"}, "task": "match"}, "/goal/metric"),
        ({"goal": {"metric": "nonsense"}}, "/goal/metric"),
        ({"goal": {"max_recall_drop": 0.1}, "task": "regression"}, "/goal/max_recall_drop"),
        ({"goal": {"budget_s": 1}}, "/goal/budget_s"),
    ],
)
async def test_goal_that_cannot_be_reached_is_refused_where_it_is_wrong(
    client: httpx.AsyncClient, worker: ActingWorker, changes: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/v1/jobs", json=await goal_body(client, worker, **changes))

    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("classification", "macro_recall"), ("multilabel", "macro_f1"), ("regression", "r2"), ("regression", None),
        ("regression", "agreement"), ("match", "agreement"), ("match", None),
    ],
)  # fmt: skip
async def test_metric_that_fits_the_task_is_accepted(
    client: httpx.AsyncClient, worker: ActingWorker, task: str, metric: str | None
) -> None:
    job = await submitted(client, worker, task=task, goal={"metric": metric})

    assert job["goal"]["metric"] == metric


async def test_goal_for_an_unknown_data_set_is_refused(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    body = await goal_body(client, worker, dataset="dst_" + "0" * 26)

    answer = await client.post("/v1/jobs", json=body)

    assert [error["pointer"] for error in answer.json()["errors"]] == ["/dataset"]


async def test_candidates_are_listed_with_their_parent(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await submitted(client, worker)
    other = await submitted_job(client, job["model"])
    ids = let_go(worker, job)

    listed = (await client.get("/v1/jobs")).json()["items"]
    found = (await client.get("/v1/jobs", params={"parent": job["id"]})).json()["items"]

    assert {one["id"]: one["parent"] for one in listed} == {job["id"]: None, other: None} | dict.fromkeys(
        ids, job["id"]
    )
    assert {one["id"] for one in found} == set(ids)
    assert all(one["parent"] == job["id"] and one["goal"] is None for one in found)
    narrowed = await client.get("/v1/jobs", params={"parent": job["id"], "state": "succeeded"})
    assert narrowed.json()["items"] == []


async def test_cancel_of_a_search_cancels_its_candidates(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await submitted(client, worker)
    queued, running = let_go(worker, job)
    worker.claim(running)

    answer = await client.post(f"/v1/jobs/{job['id']}/cancel")

    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    assert [await state(client, one) for one in (queued, running)] == ["cancelled", "cancelling"]


async def test_cancel_of_all_candidates_leaves_the_search_to_decide(
    client: httpx.AsyncClient, worker: ActingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, rung = await submitted(client, worker), []
    first, second = let_go(worker, job)
    monkeypatch.setattr(Broker, "ring", lambda _self, _kind, work_id, *_more: rung.append(work_id))

    await client.post(f"/v1/jobs/{first}/cancel")
    assert await state(client, job["id"]) == "running"
    await client.post(f"/v1/jobs/{second}/cancel")

    assert await state(client, job["id"]) == "queued"
    assert rung == [job["id"]]


@pytest.mark.parametrize("ended", [JobState.FAILED, JobState.CANCELLED])
async def test_search_is_not_resumed(client: httpx.AsyncClient, worker: ActingWorker, ended: JobState) -> None:
    job = await submitted(client, worker)
    if ended == JobState.FAILED:
        worker.end(worker.claim(job["id"]), ended, problem_of(GuardNotMet()))
    else:
        await client.post(f"/v1/jobs/{job['id']}/cancel")

    answer = await client.post(f"/v1/jobs/{job['id']}/resume")

    assert answer.status_code == 409
    assert "submit it again" in answer.json()["detail"]


@pytest.mark.parametrize("noun", ["model", "dataset"])
async def test_what_a_search_needs_is_not_deleted(client: httpx.AsyncClient, worker: ActingWorker, noun: str) -> None:
    job = await submitted(client, worker)
    for one in let_go(worker, job):
        worker.end(worker.claim(one), JobState.SUCCEEDED)

    answer = await client.delete(f"/v1/{noun}s/{job[noun]}")

    assert answer.status_code == 409
    assert job["id"] in answer.json()["detail"]


async def test_search_and_its_candidates_are_among_what_became_of_a_model(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    job = await submitted(client, worker)
    ids = let_go(worker, job)

    answer = await client.get(f"/v1/models/{job['model']}/lineage")

    found = {one["job"]: one["techniques"] for one in answer.json()["descendants"]}
    assert found == {job["id"]: []} | {one: ["share_weights"] for one in ids}


async def test_same_key_answers_the_same_search(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    body, key = await goal_body(client, worker), {"Idempotency-Key": "once"}

    first, second = [await client.post("/v1/jobs", json=body, headers=key) for _ in range(2)]
    other = await client.post("/v1/jobs", json={**body, "goal": {}}, headers=key)

    assert first.json() == second.json()
    assert (second.headers["Idempotency-Replayed"], other.status_code) == ("true", 422)


async def test_key_of_a_request_from_before_there_were_goals_still_holds(
    client: httpx.AsyncClient, worker: ActingWorker, resources: Resources
) -> None:
    body = job_body(await ready_model(client, worker))
    old = JobCreate.model_validate(body).model_dump(mode="json")
    del old["goal"]
    digests = []

    def reserve(_tx: Any, _tenant: str, _key: str, digest: str) -> None:
        digests.append(digest)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(service.records, "reserve_key", reserve)
        await client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})

    compact = httpx.Request("POST", "http://x", json=old).content
    assert digests == [hashlib.sha256(compact).hexdigest()]


async def test_candidates_count_towards_the_quota_and_are_not_refused_by_it(
    client: httpx.AsyncClient, worker: ActingWorker, resources: Resources
) -> None:
    job = await submitted(client, worker)
    object.__setattr__(resources.settings, "max_queued_per_tenant", 2)

    ids = let_go(worker, job, count=3)

    assert len(ids) == 3
    refused = await client.post("/v1/jobs", json=job_body(job["model"]))
    assert refused.json()["type"].endswith("/quota-exceeded")


async def test_another_tenant_s_search_is_unknown(tenants: Tenants, worker: ActingWorker) -> None:
    async with tenants.client(OURS) as ours, tenants.client(THEIRS) as theirs:
        job = await submitted(ours, worker)
        let_go(worker, job)

        answers = [await theirs.get(f"/v1/jobs/{job['id']}"), await theirs.post(f"/v1/jobs/{job['id']}/cancel")]
        listed = await theirs.get("/v1/jobs", params={"parent": job["id"]})

        assert [answer.status_code for answer in answers] == [404, 404]
        assert listed.json()["items"] == []
        assert await state(ours, job["id"]) == "running"
