import asyncio

import httpx
import pytest

from app.contracts.job import JobState
from app.errors import ModelMalformed, TimeLimitExceeded
from app.problems import problem_of
from app.resources import Resources
from app.stores import records
from app.stores.tables import idempotency_keys, models
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import ONNX, RAW, UNKNOWN, job_body, ready_dataset, ready_model, submitted_job


async def test_job_is_accepted_with_its_location(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model = await ready_model(client, worker)

    answer = await client.post("/v1/jobs", json=job_body(model, tags={"run": "1"}))

    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    assert answer.headers["Retry-After"] == "2"
    assert answer.json()["state"] == "queued"
    assert (await client.get(answer.headers["Location"])).json() == answer.json()


async def test_same_key_and_body_answer_the_same_job(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model, key = await ready_model(client, worker), {"Idempotency-Key": "once"}
    first = await client.post("/v1/jobs", json=job_body(model), headers=key)

    second = await client.post("/v1/jobs", json=job_body(model), headers=key)

    assert second.status_code == 202
    assert second.json() == first.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len((await client.get("/v1/jobs")).json()["items"]) == 1


async def test_same_key_with_another_body_is_refused(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model, key = await ready_model(client, worker), {"Idempotency-Key": "once"}
    await client.post("/v1/jobs", json=job_body(model), headers=key)

    answer = await client.post("/v1/jobs", json=job_body(model, seed=1), headers=key)

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (422, "idempotency-key-reused")


async def test_same_key_in_flight_is_a_conflict(
    client: httpx.AsyncClient, worker: ActingWorker, resources: Resources
) -> None:
    model = await ready_model(client, worker)
    await client.post("/v1/jobs", json=job_body(model), headers={"Idempotency-Key": "once"})
    with resources.database.transaction() as tx:
        tx.execute(idempotency_keys.update().values(status=None))

    answer = await client.post("/v1/jobs", json=job_body(model), headers={"Idempotency-Key": "once"})

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (409, "idempotency-key-in-flight")
    assert answer.json()["retryable"] is True


async def test_key_of_a_gateway_that_died_is_taken_over(
    client: httpx.AsyncClient, worker: ActingWorker, resources: Resources
) -> None:
    model = await ready_model(client, worker)
    await client.post("/v1/jobs", json=job_body(model), headers={"Idempotency-Key": "once"})
    with resources.database.transaction() as tx:
        long_ago = records.clock(tx) - records.STALE_KEY_S - 1
        tx.execute(idempotency_keys.update().values(status=None, at=long_ago))

    answer = await client.post("/v1/jobs", json=job_body(model), headers={"Idempotency-Key": "once"})

    assert answer.status_code == 202
    assert "Idempotency-Replayed" not in answer.headers


async def test_refused_request_gives_its_key_back(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model, key = await ready_model(client, worker), {"Idempotency-Key": "once"}
    refused = await client.post("/v1/jobs", json=job_body(f"mdl_{UNKNOWN}"), headers=key)

    answer = await client.post("/v1/jobs", json=job_body(model), headers=key)

    assert (refused.status_code, answer.status_code) == (422, 202)


async def test_simultaneous_posts_with_one_key_make_one_job(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model, key = await ready_model(client, worker), {"Idempotency-Key": "once"}

    answers = await asyncio.gather(
        *(client.post("/v1/jobs", json=job_body(model), headers=key) for _ in range(12)),
    )

    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert len((await client.get("/v1/jobs")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"model": f"mdl_{UNKNOWN}"}, "/model"),
        ({"model": "nonsense"}, "/model"),
        ({"dataset": f"dst_{UNKNOWN}"}, "/dataset"),
        ({"recipe": {"steps": []}}, "/recipe/steps"),
        ({"recipe": {"steps": [], "pack": {"max_load_ms": 0}}}, "/recipe/pack/max_load_ms"),
        ({"recipe": {"steps": [{"technique": "prune_layers", "keep": 0}]}}, "/recipe/steps/0/keep"),
        ({"recipe": {"steps": [{"technique": "prune_layers", "kep": 2}]}}, "/recipe/steps/0/kep"),
        ({"recipe": {"steps": [{"technique": "nonsense"}]}}, "/recipe/steps/0"),
        ({"recipe": {"steps": [{}]}}, "/recipe/steps/0"),
        ({"recipe": {"steps": [{"technique": "quantize_int8"}, {"technique": "distill"}]}}, "/recipe"),
        ({"recipe": {"steps": [{"technique": "distill"}]}}, "/dataset"),
        ({"recipe": {"steps": [{"technique": "quantize_int8", "mode": "static"}]}}, "/dataset"),
        ({"recipe": {"steps": [{"technique": "prune_weights", "epochs": 1}]}}, "/dataset"),
        ({"recipe": {"steps": [{"technique": "quantize_int8"}], "controls": ["without_teacher"]}}, "/recipe/controls"),
        ({"recipe": {"steps": [{"technique": "ternarize"}], "controls": ["without_luck"]}}, "/recipe/controls/0"),
        ({"recipe": {"steps": [{"technique": "ternarize"}], "controls": ["without_teacher"]}}, "/recipe/controls"),
        (
            {"task": "match", "recipe": {"steps": [{"technique": "ternarize"}], "controls": ["without_teacher"]}},
            "/recipe/controls/0",
        ),
        ({"guard": {"metric": "accuracy"}}, "/guard"),
        ({"limits": {"max_run_s": 0}}, "/limits/max_run_s"),
        ({"nonsense": 1}, "/nonsense"),
        ({"seed": 1.5}, "/seed"),
        ({"webhook": "http://example.com/"}, "/webhook"),
        ({"webhook": "https://127.0.0.1/"}, "/webhook"),
        ({"webhook": "https://[::ffff:10.0.0.1]/"}, "/webhook"),
        ({"webhook": "https://metadata.internal/"}, "/webhook"),
        ({"webhook": "https://user:pass@example.com/"}, "/webhook"),
        ({"webhook": "ftp://example.com/"}, "/webhook"),
    ],
)
async def test_what_cannot_work_is_pointed_at(
    client: httpx.AsyncClient, worker: ActingWorker, changes: dict[str, object], pointer: str
) -> None:
    body = job_body(await ready_model(client, worker)) | changes

    answer = await client.post("/v1/jobs", json=body)

    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]], answer.text


async def test_teacher_must_be_a_model_of_the_tenant(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model, dataset = await ready_model(client, worker), await ready_dataset(client, worker)
    recipe = {"steps": [{"technique": "distill", "teacher": f"mdl_{UNKNOWN}"}]}

    answer = await client.post("/v1/jobs", json=job_body(model, dataset=dataset, recipe=recipe))

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/recipe/steps/0/teacher"


def with_student(student: str) -> dict[str, object]:
    return {"steps": [{"technique": "distill", "student": student}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": [{"name": "z", "dtype": "float32", "shape": ["batch", 4]}]}, "its inputs are z"),
        ({"outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 3]}]}, "its output y is float32[batch, 3]"),
    ],
)
async def test_student_that_takes_or_gives_something_else_is_pointed_at(
    client: httpx.AsyncClient, worker: ActingWorker, changes: dict[str, object], said: str
) -> None:
    model, dataset = await ready_model(client, worker), await ready_dataset(client, worker)
    student = (await client.post("/v1/models", content=ONNX, headers=RAW)).json()["id"]
    worker.accept_model(student, **changes)

    answer = await client.post("/v1/jobs", json=job_body(model, dataset=dataset, recipe=with_student(student)))

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/recipe/steps/0/student"
    assert said in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("dtype", "step", "status"),
    [
        ("int64", {"technique": "retrain", "mixup": 0.3}, 422),
        ("int64", {"technique": "prune_weights", "mixup": 0.3}, 422),
        ("int64", {"technique": "prune_weights", "mixup": 0.3, "epochs": 0}, 202),
        ("int64", {"technique": "retrain"}, 202),
        ("float16", {"technique": "retrain", "mixup": 0.3}, 202),
    ],
)
async def test_rows_of_whole_numbers_are_not_mixed(
    client: httpx.AsyncClient, worker: ActingWorker, dtype: str, step: dict[str, object], status: int
) -> None:
    dataset = await ready_dataset(client, worker)
    model = (await client.post("/v1/models", content=ONNX, headers=RAW)).json()["id"]
    worker.accept_model(model, inputs=[{"name": "ids", "dtype": dtype, "shape": ["batch", "tokens"]}])
    recipe = {"steps": [{"technique": "prune_layers"}, step]}
    answer = await client.post("/v1/jobs", json=job_body(model, dataset=dataset, recipe=recipe))
    assert answer.status_code == status
    if status == 422:
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "/recipe/steps/1/mixup"
        assert "ids (int64)" in error["detail"]


async def test_student_of_another_tokenizer_is_pointed_at(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model, dataset = await ready_model(client, worker), await ready_dataset(client, worker)
    student, other = await ready_model(client, worker), await ready_model(client, worker)
    with worker.resources.database.transaction() as tx:
        for name, digest in ((model, "a"), (student, "a"), (other, "b")):
            records.change(tx, models, name, {"tokenizer_sha256": digest * 64})

    same, differing = [
        await client.post("/v1/jobs", json=job_body(model, dataset=dataset, recipe=with_student(name)))
        for name in (student, other)
    ]

    assert (same.status_code, differing.status_code) == (202, 422)
    assert "another tokenizer" in differing.json()["errors"][0]["detail"]


async def test_student_that_is_still_checked_is_a_conflict(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model, dataset = await ready_model(client, worker), await ready_dataset(client, worker)
    student = (await client.post("/v1/models", content=ONNX, headers=RAW)).json()["id"]

    answer = await client.post("/v1/jobs", json=job_body(model, dataset=dataset, recipe=with_student(student)))

    assert answer.status_code == 409


async def test_student_of_an_unfinished_job_stays_and_has_a_lineage(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    model, student = await ready_model(client, worker), await ready_model(client, worker)
    dataset = await ready_dataset(client, worker)
    job = await submitted_job(client, model, dataset=dataset, recipe=with_student(student))

    (found,) = (await client.get(f"/v1/models/{student}/lineage")).json()["descendants"]

    assert (found["job"], found["role"]) == (job, "student")
    assert (await client.delete(f"/v1/models/{student}")).status_code == 409


async def test_model_that_is_still_checked_is_a_conflict(client: httpx.AsyncClient) -> None:
    model = (await client.post("/v1/models", content=ONNX, headers=RAW)).json()["id"]

    answer = await client.post("/v1/jobs", json=job_body(model))

    assert answer.status_code == 409
    assert answer.headers["Retry-After"] == "2"


async def test_rejected_model_is_refused(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model = (await client.post("/v1/models", content=ONNX, headers=RAW)).json()["id"]
    worker.reject(model, ModelMalformed())

    answer = await client.post("/v1/jobs", json=job_body(model))

    assert answer.status_code == 422
    assert "model-malformed" in answer.json()["detail"]


async def test_full_quota_is_429(client: httpx.AsyncClient, worker: ActingWorker, resources: Resources) -> None:
    model = await ready_model(client, worker)
    object.__setattr__(resources.settings, "max_queued_per_tenant", 1)
    await client.post("/v1/jobs", json=job_body(model))

    answer = await client.post("/v1/jobs", json=job_body(model))

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (429, "quota-exceeded")
    assert answer.headers["Retry-After"] == "30"


async def test_cuda_job_waits_in_the_gpu_queue(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    await submitted_job(client, await ready_model(client, worker), device="cuda")

    figures = (await client.get("/metrics")).text

    assert 'modelpress_queue_depth{queue="gpu",state="queued"} 1.0' in figures


async def test_queued_job_is_cancelled_at_once(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await submitted_job(client, await ready_model(client, worker))

    answer = await client.post(f"/v1/jobs/{job}/cancel")

    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")


async def test_running_job_is_cancelling(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await submitted_job(client, await ready_model(client, worker))
    worker.claim(job)

    answer = await client.post(f"/v1/jobs/{job}/cancel")

    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")


async def test_failed_job_goes_on_from_its_checkpoint_when_resumed(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    job = await submitted_job(client, await ready_model(client, worker))
    held = worker.claim(job)
    worker.leave_checkpoint(held)
    worker.end(held, JobState.FAILED, problem_of(TimeLimitExceeded()))

    answer = await client.post(f"/v1/jobs/{job}/resume")

    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert (found["state"], found["error"], found["ended_at"]) == ("queued", None, None)
    assert found["checkpoint"]["attempt"] == 1
    assert found["checkpoint"]["position"]["epoch"] == 3
    assert worker.claim(job).attempt == 2


async def test_cancelled_job_goes_on_when_resumed(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await submitted_job(client, await ready_model(client, worker))
    held = worker.claim(job)
    worker.leave_checkpoint(held)
    await client.post(f"/v1/jobs/{job}/cancel")
    worker.end(held, JobState.CANCELLED)

    assert (await client.post(f"/v1/jobs/{job}/resume")).status_code == 202
    assert not worker.standing(worker.claim(job)).cancel_requested


async def test_job_is_not_resumed_when_it_goes_on_has_succeeded_or_left_nothing(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    async def refusal(job: str) -> str:
        answer = await client.post(f"/v1/jobs/{job}/resume")
        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (409, "conflict")
        return str(answer.json()["detail"])

    model = await ready_model(client, worker)
    jobs = [await submitted_job(client, model) for _ in range(3)]
    assert "It is queued" in await refusal(jobs[0])
    held = worker.claim(jobs[0])
    worker.leave_checkpoint(held)
    assert "It is running" in await refusal(jobs[0])
    await client.post(f"/v1/jobs/{jobs[0]}/cancel")
    assert "being cancelled" in await refusal(jobs[0])
    worker.end(worker.claim(jobs[1]), JobState.SUCCEEDED)
    assert "has succeeded" in await refusal(jobs[1])
    worker.end(worker.claim(jobs[2]), JobState.FAILED, problem_of(TimeLimitExceeded()))
    assert "no checkpoint" in await refusal(jobs[2])
    assert (await client.post(f"/v1/jobs/job_{UNKNOWN}/resume")).status_code == 404


async def test_ended_job_cannot_be_cancelled(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await submitted_job(client, await ready_model(client, worker))
    worker.end(worker.claim(job), JobState.FAILED)

    answer = await client.post(f"/v1/jobs/{job}/cancel")

    assert answer.status_code == 409


async def test_list_is_filtered_by_state_and_model(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    first, second = await ready_model(client, worker), await ready_model(client, worker)
    waiting, ended = await submitted_job(client, first), await submitted_job(client, second)
    await client.post(f"/v1/jobs/{ended}/cancel")

    async def ids(query: str) -> list[str]:
        return [job["id"] for job in (await client.get(f"/v1/jobs?{query}")).json()["items"]]

    assert await ids("state=queued") == [waiting]
    assert await ids("state=cancelled,failed") == [ended]
    assert await ids(f"model={first}") == [waiting]
    assert await ids(f"model={first}&state=cancelled") == []
    assert (await client.get("/v1/jobs?state=nonsense")).status_code == 422


async def test_pages_hold_every_job_once(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model = await ready_model(client, worker)
    made = {await submitted_job(client, model) for _ in range(5)}

    seen, after = [], ""
    for _ in range(3):
        page = (await client.get(f"/v1/jobs?limit=2{after}")).json()
        seen += [job["id"] for job in page["items"]]
        after = f"&after={page['next']}"

    assert page["next"] is None
    assert len(seen) == 5
    assert set(seen) == made
    assert sorted(seen, reverse=True) == seen
