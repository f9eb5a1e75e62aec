import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from app import signatures
from app.resources import Resources
from app.stores.tables import hook_deliveries, triggers
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import ONNX, RAW, UNKNOWN, ready_dataset, ready_model

SECRET = "a shared secret of the registry"
RECIPE = {"steps": [{"technique": "share_weights"}]}
MLFLOW_EVENT = {"entity": "model_version", "action": "created", "data": {"name": "spam", "version": "3"}}


async def made(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/triggers", json={"name": "retrain", "recipe": RECIPE, "secret": SECRET, **body})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def standard(body: bytes, delivery: str = "one", secret: str = SECRET, shift_s: float = 0) -> dict[str, str]:
    return signatures.signed_headers(secret, delivery, body, time.time() + shift_s)


def mlflow(body: bytes, delivery: str = "one") -> dict[str, str]:
    stamp = int(time.time())
    return {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": str(stamp),
        "X-MLflow-Signature": signatures.sign(SECRET, delivery, stamp, body, "mlflow"),
    }


async def jobs(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    return list((await client.get("/v1/jobs")).json()["items"])


async def test_secret_is_shown_once(client: httpx.AsyncClient) -> None:
    created = (await client.post("/v1/triggers", json={"name": "retrain", "recipe": RECIPE})).json()

    read = (await client.get(f"/v1/triggers/{created['id']}")).json()

    assert created["secret"].startswith("whsec_")
    assert created["hook"] == f"/v1/hooks/{created['id']}"
    assert read["secret"] is None


async def test_deleted_trigger_takes_no_delivery(client: httpx.AsyncClient) -> None:
    trigger = await made(client)

    answer = await client.delete(f"/v1/triggers/{trigger['id']}")

    assert answer.status_code == 204
    assert (await client.get("/v1/triggers")).json()["items"] == []
    assert (await client.post(trigger["hook"], content=b"{}", headers=standard(b"{}"))).status_code == 401


async def test_what_a_trigger_needs_stays(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model, teacher = await ready_model(client, worker), await ready_model(client, worker)
    dataset = await ready_dataset(client, worker)
    recipe = {"steps": [{"technique": "distill", "teacher": teacher}]}
    trigger = await made(client, model=model, dataset=dataset, recipe=recipe)
    paths = (f"models/{model}", f"models/{teacher}", f"datasets/{dataset}")

    kept = [await client.delete(f"/v1/{path}") for path in paths]
    await client.delete(f"/v1/triggers/{trigger['id']}")
    gone = [await client.delete(f"/v1/{path}") for path in paths]

    assert [answer.status_code for answer in kept] == [409] * 3
    assert {answer.json()["detail"] for answer in kept} == {f"{trigger['id']} needs it. Delete it first."}
    assert [answer.status_code for answer in gone] == [204] * 3


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"secret": "short"}, "/secret"),
        ({"secret": "whsec_not base64!!"}, "/secret"),
        ({"model": f"mdl_{UNKNOWN}"}, "/model"),
        ({"dataset": f"dst_{UNKNOWN}"}, "/dataset"),
        ({"webhook": "http://127.0.0.1/"}, "/webhook"),
        ({"kind": "github"}, "/kind"),
        ({"match": {"source": "/s"}}, "/match/source"),
        ({"kind": "mlflow", "match": {"subject": "s"}}, "/match/subject"),
        ({"kind": "cloudevents", "match": {"tag": {"key": "k", "value": "v"}}}, "/match/tag"),
        ({"goal": {}}, ""),
        ({"recipe": None}, ""),
        ({"recipe": None, "goal": {}}, "/dataset"),
        ({"recipe": None, "goal": {}, "guard": {}}, ""),
    ],
)
async def test_trigger_that_cannot_work_is_pointed_at(
    client: httpx.AsyncClient, changes: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/v1/triggers", json={"name": "retrain", "recipe": RECIPE, **changes})

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert "short" not in answer.json()["detail"]


async def test_mlflow_delivery_starts_the_stored_job(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model = await ready_model(client, worker)
    trigger = await made(client, kind="mlflow", model=model, match={"events": ["model_version.created"]})
    body = json.dumps(MLFLOW_EVENT).encode()

    answer = await client.post(trigger["hook"], content=body, headers=mlflow(body))

    assert answer.status_code == 202, answer.text
    started = (await client.get(answer.headers["Location"])).json()
    assert (started["model"], started["trigger"]) == (model, trigger["id"])


async def test_a_goal_is_searched_for_on_each_delivered_model(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    goal = {"minimize": "latency", "max_drop": 0.005}
    model, dataset = await ready_model(client, worker), await ready_dataset(client, worker)
    trigger = await made(client, recipe=None, goal=goal, model=model, dataset=dataset)

    answer = await client.post(trigger["hook"], content=b"{}", headers=standard(b"{}"))

    started = (await client.get(answer.headers["Location"])).json()
    assert (started["recipe"], started["dataset"]) == (None, dataset)
    assert goal.items() <= started["goal"].items()
    read = (await client.get(f"/v1/triggers/{trigger['id']}")).json()
    assert (read["recipe"], read["goal"]) == (None, started["goal"])


async def test_cloudevent_names_its_own_model(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model = await ready_model(client, worker)
    trigger = await made(client)
    body = json.dumps({"specversion": "1.0", "type": "registered", "data": {"model": model}}).encode()

    answer = await client.post(trigger["hook"], content=body, headers=standard(body))

    assert answer.json()["accepted"] is True
    assert (await jobs(client))[0]["model"] == model


async def test_cloudevent_in_either_mode_starts_the_stored_job(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model = await ready_model(client, worker)
    match = {"events": ["model.registered"], "source": "/registry", "subject": "spam"}
    trigger = await made(client, kind="cloudevents", match=match)
    data, attributes = {"model": model}, {"specversion": "1.0", "id": "1", "type": "model.registered"}
    attributes |= {"source": "/registry", "subject": "spam"}
    whole, alone = json.dumps({**attributes, "data": data}).encode(), json.dumps(data).encode()
    as_headers = {f"ce-{name}": value for name, value in attributes.items()}

    one = await client.post(
        trigger["hook"], content=whole, headers={"Content-Type": "application/cloudevents+json", **standard(whole)}
    )
    two = await client.post(
        trigger["hook"],
        content=alone,
        headers={"Content-Type": "application/json", **as_headers, **standard(alone, "two")},
    )

    assert (one.status_code, two.status_code) == (202, 202), (one.text, two.text)
    assert [job["model"] for job in await jobs(client)] == [model, model]


async def test_what_the_signature_does_not_cover_starts_no_second_job(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    trigger = await made(client, kind="cloudevents", model=await ready_model(client, worker))
    attributes = {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "s", **standard(b"")}
    first = await client.post(trigger["hook"], headers={**attributes, "ce-id": "1"})

    again = await client.post(trigger["hook"], headers={**attributes, "ce-id": "2", "ce-type": "another"})

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json()


@pytest.mark.parametrize("match", [{"events": ["other"]}, {"source": "/other"}, {"subject": "other"}])
async def test_cloudevent_that_does_not_match_starts_nothing(
    client: httpx.AsyncClient, worker: ActingWorker, match: dict[str, Any]
) -> None:
    trigger = await made(client, kind="cloudevents", model=await ready_model(client, worker), match=match)
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "/s", **standard(b"")}

    answer = await client.post(trigger["hook"], headers=headers)

    assert (answer.status_code, answer.json()["accepted"]) == (200, False)


async def test_batch_of_cloudevents_is_refused_after_its_signature(client: httpx.AsyncClient) -> None:
    trigger = await made(client, kind="cloudevents")
    batch = {"Content-Type": "application/cloudevents-batch+json"}

    forged = await client.post(trigger["hook"], content=b"[]", headers={**batch, **standard(b"{}")})
    signed = await client.post(trigger["hook"], content=b"[]", headers={**batch, **standard(b"[]")})

    assert forged.status_code == 401
    assert (signed.status_code, signed.json()["type"].rsplit("/", 1)[-1]) == (422, "event-malformed")
    assert "Batches" in signed.json()["detail"]


@pytest.mark.parametrize(
    ("event", "accepted"),
    [
        ({"action": "set", "entity": "model_version_tag", "data": {"key": "stage", "value": "compress"}}, True),
        ({"action": "set", "entity": "model_version_tag", "data": {"key": "stage", "value": "other"}}, False),
        ({"action": "set", "entity": "model_version_tag", "data": {"key": ["stage"], "value": {}}}, False),
        ({"action": "deleted", "entity": "model_version_tag", "data": {"key": "stage"}}, False),
        ({"action": "created", "entity": "model_version", "data": {"tags": {"stage": "compress"}}}, True),
        ({"action": "created", "entity": "model_version", "data": {"tags": {}}}, False),
        ({"action": "created", "entity": "model_version", "data": {"tags": ["stage"]}}, False),
        ({"action": "created", "entity": "registered_model", "data": {"tags": {"stage": "compress"}}}, False),
    ],
)
async def test_mlflow_delivery_is_matched_by_its_tag(
    client: httpx.AsyncClient, worker: ActingWorker, event: dict[str, Any], accepted: bool
) -> None:
    match = {"tag": {"key": "stage", "value": "compress"}}
    trigger = await made(client, kind="mlflow", model=await ready_model(client, worker), match=match)
    body = json.dumps(event).encode()

    answer = await client.post(trigger["hook"], content=body, headers=mlflow(body))

    assert answer.json()["accepted"] is accepted, answer.text


async def test_trigger_that_uses_nothing_new_is_stored_as_before(
    client: httpx.AsyncClient, resources: Resources
) -> None:
    await made(client, match={"name": "spam"})

    with resources.database.reading() as tx:
        (row,) = tx.execute(triggers.select()).all()
    assert row.document["match"] == {"events": [], "name": "spam", "alias": None}
    assert not {"goal", "schedule", "secret"} & set(row.document)


async def test_schedule_shows_when_it_is_due_and_takes_no_delivery(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    schedule = {"cron": "0 3 * * 1-5", "timezone": "Europe/Berlin"}
    trigger = await made(client, kind="schedule", schedule=schedule, model=await ready_model(client, worker))

    answer = await client.post(f"/v1/hooks/{trigger['id']}", content=b"{}", headers=standard(b"{}"))

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (401, "signature-invalid")
    unknown = await client.post(f"/v1/hooks/trg_{UNKNOWN}", content=b"{}", headers=standard(b"{}"))
    assert answer.json()["detail"] == unknown.json()["detail"]
    read = (await client.get(f"/v1/triggers/{trigger['id']}")).json()
    listed = (await client.get("/v1/triggers")).json()["items"][0]
    assert read == listed
    assert (read["hook"], read["schedule"], read["last"], read["secret"]) == (None, schedule, None, None)
    assert datetime.fromisoformat(read["next_at"]).astimezone(ZoneInfo("Europe/Berlin")).hour == 3


async def test_same_delivery_answers_the_first_outcome(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    trigger = await made(client, model=await ready_model(client, worker))
    first = await client.post(trigger["hook"], content=b"{}", headers=standard(b"{}"))

    second = await client.post(trigger["hook"], content=b"{}", headers=standard(b"{}"))

    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json() == first.json()
    assert len(await jobs(client)) == 1


async def test_delivery_whose_handling_died_makes_no_second_job(
    client: httpx.AsyncClient, worker: ActingWorker, resources: Resources
) -> None:
    trigger = await made(client, model=await ready_model(client, worker))
    await client.post(trigger["hook"], content=b"{}", headers=standard(b"{}"))
    with resources.database.transaction() as tx:
        tx.execute(hook_deliveries.update().values(outcome=None))

    answer = await client.post(trigger["hook"], content=b"{}", headers=standard(b"{}"))

    assert answer.json()["accepted"] is True
    assert len(await jobs(client)) == 1


@pytest.mark.parametrize(
    "signed",
    [
        dict,
        lambda: standard(b"{}", secret="another secret of 31 characters"),
        lambda: standard(b"{ }"),
        lambda: standard(b"{}", shift_s=-310),
        lambda: standard(b"{}", shift_s=310),
        lambda: mlflow(b"{}"),
    ],
)
async def test_forged_delivery_is_401(
    client: httpx.AsyncClient, worker: ActingWorker, signed: Callable[[], dict[str, str]]
) -> None:
    trigger = await made(client, model=await ready_model(client, worker))

    answer = await client.post(trigger["hook"], content=b"{}", headers=signed())

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (401, "signature-invalid")
    assert await jobs(client) == []


async def test_unknown_hook_answers_as_a_forged_delivery(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"/v1/hooks/trg_{UNKNOWN}", content=b"{}", headers=standard(b"{}"))

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (401, "signature-invalid")


@pytest.mark.parametrize("match", [{"events": ["model_version.deleted"]}, {"name": "ham"}, {"alias": "champion"}])
async def test_delivery_that_does_not_match_starts_nothing(
    client: httpx.AsyncClient, worker: ActingWorker, match: dict[str, Any]
) -> None:
    trigger = await made(client, kind="mlflow", model=await ready_model(client, worker), match=match)
    body = json.dumps(MLFLOW_EVENT).encode()

    answer = await client.post(trigger["hook"], content=body, headers=mlflow(body))

    assert (answer.status_code, answer.json()["accepted"]) == (200, False)
    assert answer.json()["reason"]
    assert await jobs(client) == []


async def test_delivery_without_a_model_starts_nothing(client: httpx.AsyncClient) -> None:
    trigger = await made(client)

    answer = await client.post(trigger["hook"], content=b"{}", headers=standard(b"{}"))

    assert (answer.status_code, answer.json()["accepted"]) == (200, False)


async def test_delivery_of_an_unknown_model_says_why(client: httpx.AsyncClient) -> None:
    trigger = await made(client)
    body = json.dumps({"model": f"mdl_{UNKNOWN}"}).encode()

    answer = await client.post(trigger["hook"], content=body, headers=standard(body))

    assert answer.json()["accepted"] is False
    assert "no model with this id" in answer.json()["reason"]


async def test_delivery_of_a_model_still_checked_may_be_sent_again(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    model = (await client.post("/v1/models", content=ONNX, headers=RAW)).json()["id"]
    trigger = await made(client, model=model)
    early = await client.post(trigger["hook"], content=b"{}", headers=standard(b"{}"))
    worker.accept_model(model)

    answer = await client.post(trigger["hook"], content=b"{}", headers=standard(b"{}"))

    assert (early.status_code, answer.status_code) == (409, 202)


@pytest.mark.parametrize("body", [b"not json", b"[]", b"[" * 100_000])
async def test_delivery_that_is_no_event_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    trigger = await made(client)

    assert (await client.post(trigger["hook"], content=body, headers=standard(body))).status_code == 422


async def test_delivery_of_megabytes_is_refused(client: httpx.AsyncClient) -> None:
    trigger = await made(client)

    assert (await client.post(trigger["hook"], content=b" " * (1 << 21), headers=standard(b""))).status_code == 413
