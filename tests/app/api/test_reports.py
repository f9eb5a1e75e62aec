import httpx

from app.contracts.job import JobState
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import REPORT, UNKNOWN, published, ready_model, submitted_job


async def report(client: httpx.AsyncClient, worker: ActingWorker, accept: str) -> httpx.Response:
    artifact = await published(client, worker)
    job = (await client.get(f"/v1/artifacts/{artifact}")).json()["job"]
    return await client.get(f"/v1/jobs/{job}/report", headers={"Accept": accept})


async def test_report_is_json(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    answer = await report(client, worker, "*/*")

    assert answer.status_code == 200, answer.text
    assert answer.json()["verdict"] == REPORT["verdict"]


async def test_model_card_begins_with_the_verdict_and_escapes_names(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    answer = await report(client, worker, "text/markdown")

    head, card = answer.text.split("\n---\n\n")
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert 'base_model_relation: "quantized"' in head
    assert card.startswith(r"# 5.1x smaller \<b\>and")
    assert "| accuracy | 98.00% | 97.90% | -0.10 points \\[-0.40, +0.20\\], n = 1,200 test rows |" in card.replace(
        "\\_", "_"
    )
    assert "| file\\_bytes | 2.00 MB | 400.00 kB |  | 5.00× | better |" in card
    assert "| p50\\_ms@1 | 2 ms | 0.5 ms |  | 4.00× \\[3.90, 4.20\\] | better |" in card
    assert "## Beside its controls, on test rows" in card
    assert "| figure | the original | this result | without teacher |" in card
    assert r"| file\_bytes | 2.00 MB | 400.00 kB | 390.00 kB |" in card
    assert r"| accuracy |  | 97.90% \[97.00%, 98.50%\] | 95.00% \[94.00%, 96.00%\] |" in card
    assert r"| accuracy: this result minus the control's |  |  | +2.90 points \[+2.00, +3.80\]" in card
    assert "## Quality on test rows" in card
    assert r"| recall of \<b\>cat |  | 90.00% \[80.00%, 95.00%\] | 60 |" in card
    assert "accuracy 90.00% on 10 validation rows" in card
    assert "| 1 | 2 | 900 | 0% |  |  |  | 0.5 ms | 0.6 ms | 0.8 ms | 2,000 | 4.00× \\[3.90, 4.20\\] |" in card
    assert "<script>" not in card
    assert r"\<script\>alert(1)\</script\>\|w" in card


async def test_page_begins_with_the_verdict_and_escapes_names(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    answer = await report(client, worker, "text/html")

    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "<h1>5.1x smaller &lt;b&gt;" in answer.text
    assert "<script" not in answer.text
    assert "it has no VNNI" in answer.text


async def test_report_in_another_form_is_not_acceptable(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    assert (await report(client, worker, "application/pdf")).status_code == 406


async def test_report_before_the_end_is_a_conflict(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await submitted_job(client, await ready_model(client, worker))

    answer = await client.get(f"/v1/jobs/{job}/report")

    assert (answer.status_code, answer.headers["Retry-After"]) == (409, "5")


async def test_report_of_a_job_without_one_is_404(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    job = await submitted_job(client, await ready_model(client, worker))
    worker.end(worker.claim(job), JobState.FAILED)

    assert (await client.get(f"/v1/jobs/{job}/report")).status_code == 404


async def test_report_of_an_unknown_job_is_404(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/v1/jobs/job_{UNKNOWN}/report")).status_code == 404
