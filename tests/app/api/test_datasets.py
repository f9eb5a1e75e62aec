import json

import httpx
import pytest

from app.errors import DatasetMalformed
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import RAW, UNKNOWN, job_body, ready_dataset, ready_model

ROWS = b"text,label\nhello,0\n"


async def test_dataset_keeps_how_it_is_read(client: httpx.AsyncClient) -> None:
    upload = (await client.post("/v1/uploads", content=ROWS, headers={"Upload-Complete": "?1"})).json()["id"]
    body = {"upload": upload, "format": "csv", "columns": {"text": "text"}, "splits": {"test": 0.3}, "max_length": 32}

    answer = await client.post("/v1/datasets", json=body)

    assert answer.status_code == 202, answer.text
    read = (await client.get(answer.headers["Location"])).json()
    assert (read["format"], read["columns"]["text"], read["splits"]["test"], read["max_length"]) == (
        "csv",
        "text",
        0.3,
        32,
    )


async def test_form_holds_columns_as_json(client: httpx.AsyncClient) -> None:
    fields = {"format": "csv", "columns": json.dumps({"label": "label"}), "max_length": "16", "name": ""}

    answer = await client.post("/v1/datasets", files={"file": ("rows.csv", ROWS)}, data=fields)

    assert answer.status_code == 202, answer.text
    assert (answer.json()["name"], answer.json()["columns"]["label"]) == ("rows.csv", "label")
    assert answer.json()["max_length"] == 16


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"columns": "{"}, "/columns"),
        ({"format": "xls"}, "/format"),
        ({"max_length": "0"}, "/max_length"),
        ({"nonsense": "1"}, "/nonsense"),
        ({"splits": '{"test": 2}'}, "/splits/test"),
    ],
)
async def test_form_that_cannot_work_is_pointed_at(
    client: httpx.AsyncClient, fields: dict[str, str], pointer: str
) -> None:
    answer = await client.post("/v1/datasets", files={"file": ("rows.csv", ROWS)}, data=fields)

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_form_without_a_file_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/datasets", files={"format": (None, "csv")})

    assert answer.status_code == 422


async def test_form_with_two_files_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/datasets", files=[("file", ("a.csv", ROWS)), ("file", ("b.csv", ROWS))])

    assert answer.status_code == 422


async def test_form_with_megabytes_of_text_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/datasets", files={"file": ("a.csv", ROWS)}, data={"name": "x" * 100_000})

    assert answer.status_code == 413


@pytest.mark.parametrize("content", [b"no boundary here", b"--b\r\nbroken\r\n", b"--b\r\n" + b"X: " + b"y" * 200_000])
async def test_broken_form_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}

    assert (await client.post("/v1/datasets", content=content, headers=headers)).status_code == 422


async def test_form_without_boundary_is_415(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/datasets", content=b"x", headers={"Content-Type": "multipart/form-data"})

    assert answer.status_code == 415


@pytest.mark.parametrize("name", ["weights.pt", "model.PKL", "pytorch_model.bin"])
@pytest.mark.parametrize("noun", ["models", "datasets"])
async def test_name_of_a_pickle_is_415(client: httpx.AsyncClient, noun: str, name: str) -> None:
    raw = await client.post(f"/v1/{noun}?name={name}", content=b"x", headers=RAW)
    form = await client.post(f"/v1/{noun}", files={"file": (name, b"x")})

    assert [raw.status_code, form.status_code] == [415, 415]
    assert raw.json()["type"].endswith("/format-unsafe")


@pytest.mark.parametrize("noun", ["models", "datasets"])
async def test_empty_raw_body_is_refused(client: httpx.AsyncClient, noun: str) -> None:
    assert (await client.post(f"/v1/{noun}", content=b"", headers=RAW)).status_code == 422


@pytest.mark.parametrize("noun", ["models", "datasets"])
async def test_unknown_format_is_refused(client: httpx.AsyncClient, noun: str) -> None:
    assert (await client.post(f"/v1/{noun}?format=h5", content=b"x", headers=RAW)).status_code == 422


async def test_query_beside_json_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/datasets?format=csv", json={"upload": f"upl_{UNKNOWN}"})

    assert answer.status_code == 422
    assert "JSON body" in answer.json()["detail"]


async def test_rejected_dataset_says_why_and_makes_no_job(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model = await ready_model(client, worker)
    dataset = (await client.post("/v1/datasets", content=b"x", headers=RAW)).json()["id"]
    worker.reject(dataset, DatasetMalformed("Row 3 has two columns."))

    answer = await client.post("/v1/jobs", json=job_body(model, dataset=dataset))

    read = (await client.get(f"/v1/datasets/{dataset}")).json()
    assert (read["state"], read["error"]["detail"]) == ("rejected", "Row 3 has two columns.")
    assert answer.json()["errors"][0]["pointer"] == "/dataset"


async def test_dataset_and_model_of_an_unfinished_job_stay(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model, dataset = await ready_model(client, worker), await ready_dataset(client, worker)
    job = (await client.post("/v1/jobs", json=job_body(model, dataset=dataset))).json()["id"]

    kept = [(await client.delete(f"/v1/{path}")).status_code for path in (f"models/{model}", f"datasets/{dataset}")]
    await client.post(f"/v1/jobs/{job}/cancel")
    gone = [(await client.delete(f"/v1/{path}")).status_code for path in (f"models/{model}", f"datasets/{dataset}")]

    assert (kept, gone) == ([409, 409], [204, 204])
    assert (await client.get(f"/v1/jobs/{job}")).json()["model"] == model


async def test_teacher_of_an_unfinished_job_stays(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model, teacher = await ready_model(client, worker), await ready_model(client, worker)
    recipe = {"steps": [{"technique": "distill", "teacher": teacher}]}
    await client.post("/v1/jobs", json=job_body(model, dataset=await ready_dataset(client, worker), recipe=recipe))

    assert (await client.delete(f"/v1/models/{teacher}")).status_code == 409
