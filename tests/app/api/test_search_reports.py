"""The report of a job with a goal, in each form."""

import re

import httpx
import pytest

from app.contracts.report import Report
from app.contracts.search import Search
from app.stores import records
from app.stores.tables import jobs
from tests.app.acting_worker import ActingWorker
from tests.app.searches import GOAL, SENSITIVITY, STRANGE, WHY, WHY_NOT, search, search_in_vain
from tests.app.seeds import REPORT, published


async def report(client: httpx.AsyncClient, worker: ActingWorker, accept: str, found: Search) -> httpx.Response:
    artifact = await published(client, worker)
    job = (await client.get(f"/v1/artifacts/{artifact}")).json()["job"]
    told = (
        Report.model_validate(REPORT)
        .model_copy(update={"search": found, "sensitivity": SENSITIVITY})
        .model_dump(mode="json")
    )
    with worker.resources.database.transaction() as tx:
        document = records.get(tx, jobs, "default", job)["document"]
        changed = {**document, "recipe": None, "goal": GOAL.model_dump(mode="json")}
        records.change(tx, jobs, job, {"report": told, "document": changed})
    return await client.get(f"/v1/jobs/{job}/report", headers={"Accept": accept})


async def test_report_of_a_goal_is_json(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    found = search()

    answer = await report(client, worker, "application/json", found)

    assert Report.model_validate(answer.json()).search == found


def test_report_of_an_earlier_version_is_read() -> None:
    stored = {**search().model_dump(mode="json"), "sensitivity": [SENSITIVITY[0].model_dump(mode="json")]}
    assert Search.model_validate(stored).why == WHY


async def test_model_card_of_a_goal_says_why_and_what_else_was_found(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    found = search()

    card = (await report(client, worker, "text/markdown", found)).text

    assert card.index(f"**{WHY}**") < card.index("## What was found") < card.index("## Before and after")
    rows = card[card.index("## What was found") : card.index("## Before and after")].splitlines()[4:]
    names = [row.split(" | ")[0] for row in rows if row]
    assert names == [
        "| 1 layer, ternary, int8",
        "| 1 layer, binary",
        "| 2 layers, int8",
        "| 3 layers",
        r"| \<b\>rank 4\</b\>",
        "| 4 layers",
    ]
    first = (
        "| 1 layer, ternary, int8 | recommended | 2 | 450.00 kB | 202.22× | 0.12 ms | 66.67× | 900.00 kB "
        f"| 0.50 points | 0.70 points | 2.00 points | 0.132 ms, 0.12 ms (+10%) |  | {found.recommended} |"
    )
    assert rows[0] == first.replace("_", r"\_")
    assert "| front | 1 | 310.00 kB |" in rows[1]
    assert "accuracy lost 7.00 points" in rows[1]
    assert "| failed | 0 |" in rows[4]
    assert "| time was up | 2 |" in rows[5]
    assert '"technique": "ternarize"' in card.replace("\\", "")
    assert 'tags: ["onnx", "compressed", "prune_layers", "ternarize"]' in card


async def test_model_card_of_a_goal_lists_the_most_damaged_layers_of_each_setting(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    card = (await report(client, worker, "text/markdown", search())).text

    rows = card[card.index("## What coarser values cost") : card.index("## How it was made")].splitlines()[4:]
    assert rows[:3] == [
        "| int8 | head | Gemm | 768 | 0.0002 |",
        r"| ternary | \<script\>alert(2)\</script\>\|layer.weight | MatMul | 147,456 | 0.31 |",
        "| ternary | head | Gemm | 768 | 0.04 |",
    ]


async def test_page_of_a_goal_draws_its_points_without_a_script(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    page = (await report(client, worker, "text/html", search())).text

    assert page.count("<svg ") == 2  # size and latency
    assert WHY in page
    assert "not met" not in page
    assert "at least 97.00%" in page
    assert "at most 20.00 MB" in page
    assert "at most 4 ms" in page
    assert "<script" not in page
    assert STRANGE not in page
    assert "&lt;b&gt;rank 4&lt;/b&gt;" in page
    sizes = re.findall(r'<circle class="(\w+)" cx="([\d.]+)" cy="([\d.]+)" r="\d"><title>([^<]*)</title>', page)[:5]
    assert [look for look, *_ in sizes] == ["original", "other", "front", "front", "recommended"]
    assert [told for *_, told in sizes if "recommended" in told] == [
        "1 layer, ternary, int8: 450.00 kB, accuracy 97.50% (recommended)"
    ]
    across = {told.partition(":")[0]: float(x) for _, x, _, told in sizes}
    assert (
        across["1 layer, binary"] < across["1 layer, ternary, int8"] < across["2 layers, int8"] < across["the original"]
    )


@pytest.mark.parametrize("accept", ["text/html", "text/markdown"])
async def test_report_of_a_goal_that_nothing_meets_names_the_nearest(
    client: httpx.AsyncClient, worker: ActingWorker, accept: str
) -> None:
    text = (await report(client, worker, accept, search_in_vain())).text

    assert WHY_NOT in text
    assert "The goal is not met." in text
    assert "none meets the goal" in text
    assert text.count("front, nearest") >= 2
    assert "larger than 1 kB" in text
