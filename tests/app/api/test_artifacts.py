import httpx

from app.settings import Retention
from app.stores import retention
from app.stores.tables import artifacts
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import UNKNOWN, published, ready_model


async def test_artifact_names_its_parents(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    artifact = await published(client, worker)

    read = (await client.get(f"/v1/artifacts/{artifact}")).json()

    assert read["job"].startswith("job_")
    assert read["model"].startswith("mdl_")
    assert set(read["variants"]) == {"packed", "dense"}


async def test_artifacts_are_listed_by_model_and_job(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    one, two = await published(client, worker), await published(client, worker)
    read = (await client.get(f"/v1/artifacts/{one}")).json()

    async def ids(query: str) -> list[str]:
        return [item["id"] for item in (await client.get(f"/v1/artifacts{query}")).json()["items"]]

    assert set(await ids("")) == {one, two}
    assert await ids(f"?model={read['model']}") == [one]
    assert await ids(f"?job={read['job']}") == [one]


async def test_artifact_that_was_kept_for_long_enough_is_not_found_and_its_report_stays(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    artifact = await published(client, worker)
    job = (await client.get(f"/v1/artifacts/{artifact}")).json()["job"]
    with worker.resources.database.transaction() as tx:
        tx.execute(artifacts.update().values(created_at=0.0))

    gone = list(retention.apply(worker.resources.database, {"default": Retention(artifacts_days=90)}))

    assert [one.ids for one in gone] == [[artifact]]
    for path in ("", "/content", "/benchmarks"):
        answer = await client.get(f"/v1/artifacts/{artifact}{path}")
        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (404, "not-found"), path
        assert answer.json()["detail"] == "There is no artifact with this id."
    assert (await client.get(f"/v1/jobs/{job}")).json()["artifact"] is None
    for kind in ("application/json", "text/markdown", "text/html"):
        assert (await client.get(f"/v1/jobs/{job}/report", headers={"Accept": kind})).status_code == 200


async def test_lineage_names_job_and_artifact(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    artifact = await published(client, worker)
    model = (await client.get(f"/v1/artifacts/{artifact}")).json()["model"]

    found = (await client.get(f"/v1/models/{model}/lineage")).json()["descendants"]

    assert [(entry["artifact"], entry["role"], entry["techniques"]) for entry in found] == [
        (artifact, "compressed", ["share_weights"])
    ]


async def test_benchmark_is_against_the_original_by_default(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    artifact = await published(client, worker)
    model = (await client.get(f"/v1/artifacts/{artifact}")).json()["model"]

    answer = await client.post(f"/v1/artifacts/{artifact}/benchmarks", json={"batch_sizes": [1], "threads": 1})

    assert answer.status_code == 202, answer.text
    assert answer.json()["against"] == model
    assert (await client.get(answer.headers["Location"])).json()["state"] == "queued"
    listed = (await client.get(f"/v1/artifacts/{artifact}/benchmarks")).json()["items"]
    assert [item["id"] for item in listed] == [answer.json()["id"]]


async def test_benchmark_against_an_unknown_model_is_refused(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    artifact = await published(client, worker)

    answer = await client.post(f"/v1/artifacts/{artifact}/benchmarks", json={"against": f"mdl_{UNKNOWN}"})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/against"


async def test_benchmark_of_bad_sizes_is_pointed_at(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    artifact = await published(client, worker)

    answer = await client.post(f"/v1/artifacts/{artifact}/benchmarks", json={"batch_sizes": [0], "threads": [0]})

    assert [error["pointer"] for error in answer.json()["errors"]] == ["/batch_sizes/0", "/threads", "/threads/0"]


async def test_model_in_a_benchmark_is_not_deleted(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    artifact, other = await published(client, worker), await ready_model(client, worker)
    await client.post(f"/v1/artifacts/{artifact}/benchmarks", json={"against": other})

    assert (await client.delete(f"/v1/models/{other}")).status_code == 409
