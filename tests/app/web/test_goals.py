"""The pages of a job with a goal, in a real browser."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from app.contracts.goal import Goal
from app.contracts.job import Job, JobState
from app.stores.work import Claim
from modelpress import Client
from tests.app.acting_worker import ActingWorker
from tests.app.searches import BEST, GOAL, STRANGE, WHY, WHY_NOT, not_met, search, search_in_vain
from tests.modelpress.publishing import publish, refuse, started_job

pytestmark = pytest.mark.browser
Opener = Callable[..., Page]


def started_search(rest: Client, worker: ActingWorker, folder: Path) -> tuple[Job, Claim]:
    """A running job with a goal, on a model and data of its own."""
    before, _ = started_job(rest, worker, folder)
    job = rest.optimize(before.model, GOAL, before.dataset)
    return job, worker.claim(job.id)


def answer_candidates(page: Page, found: list[Job]) -> None:
    """Let the gateway have these candidates."""

    def answer(route: Route) -> None:
        body: dict[str, Any] = {"items": [job.model_dump(mode="json") for job in reversed(found)], "next": None}
        route.fulfill(body=json.dumps(body), content_type="application/json")

    page.route("**/v1/jobs?parent=*", answer)


def test_start_when_a_goal_is_chosen(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    before, _ = started_job(rest, worker, tmp_path)
    page = open_page(f"/?model={before.model}&dataset={before.dataset}")
    expect(page.get_by_label("Minutes to look")).to_be_hidden()
    page.get_by_label("A goal: what to reach").check()
    expect(page.get_by_role("button", name="Add step")).to_be_hidden()
    expect(page.get_by_label("Largest allowed drop")).to_be_hidden()
    page.get_by_label("Most that the metric may lose").fill("0.02")
    page.get_by_label("Be best at").select_option("latency")
    page.get_by_label("Minutes to look").fill("5")
    page.get_by_text("Further bounds, device").click()
    page.get_by_label("Largest file, in MB").fill("1.5")
    page.get_by_label("Rows of a call").select_option("8")
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(rf"/jobs/(?!{before.id})job_\w+$"))
    job = rest.job(page.url.rpartition("/")[2])
    assert job.recipe is job.guard is None
    assert job.goal == Goal(minimize="latency", max_drop=0.02, budget_s=300, max_size_bytes=1_500_000, batch_size=8)
    expect(page.locator("#request")).to_contain_text("least latency, accuracy may lose 2.00 points, at most 1.5 MB")


def test_start_when_a_goal_is_wrong(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    before, _ = started_job(rest, worker, tmp_path)
    page = open_page(f"/?model={before.model}&dataset={before.dataset}")
    page.get_by_label("A goal: what to reach").check()
    page.get_by_label("Minutes to look").fill("0.1")
    page.get_by_role("button", name="Start the job").click()
    expect(page.locator("[data-error='/goal/budget_s']")).to_contain_text("greater than or equal to 60")


def test_start_when_a_goal_has_no_data(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    before, _ = started_job(rest, worker, tmp_path)
    page = open_page(f"/?model={before.model}")
    page.get_by_label("A goal: what to reach").check()
    expect(page.locator("#submit-hint")).to_contain_text("choose a data set")
    expect(page.get_by_role("button", name="Start the job")).to_be_disabled()


def test_job_when_its_candidates_run(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, _ = started_search(rest, worker, tmp_path)
    first, second = (started_job(rest, worker, tmp_path)[0].model_copy(update={"parent": job.id}) for _ in range(2))
    page = open_page("/jobs")
    answer_candidates(page, [first.model_copy(update={"state": JobState.SUCCEEDED}), second])
    page.goto(page.url + f"/{job.id}")
    expect(page.locator("#candidates tbody tr")).to_have_count(2)
    expect(page.locator("#candidate-count")).to_have_text("1 of 2 have ended.")
    expect(page.locator("#candidates .badge")).to_have_text(["succeeded", "queued"])
    expect(page.locator("#candidates a").first).to_have_attribute("href", f"/jobs/{first.id}")
    expect(page.locator("#curves")).to_be_hidden()
    expect(page.locator("#request")).to_contain_text("30 min 00 s")


@pytest.mark.parametrize("place", ["", "/result"])
def test_candidate_leads_to_the_search_it_belongs_to(
    open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path, place: str
) -> None:
    job, held = started_job(rest, worker, tmp_path)
    publish(worker, job, held, os.urandom(100))
    candidate = rest.job(job.id).model_copy(update={"parent": "job_" + "1" * 26})
    page = open_page("/jobs")
    page.route(f"**/v1/jobs/{job.id}", lambda route: route.fulfill(body=candidate.model_dump_json()))
    page.goto(page.url + f"/{job.id}{place}")
    expect(page.get_by_role("link", name=candidate.parent)).to_have_attribute("href", f"/jobs/{candidate.parent}")


def test_jobs_when_one_has_a_goal(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, _ = started_search(rest, worker, tmp_path)
    page = open_page("/jobs")
    row = page.locator("#jobs tbody tr").filter(has=page.locator(f"[title='{job.id}']"))
    expect(row).to_contain_text("goal: least size, accuracy may lose 1.00 points, at most 20 MB, at most 4 ms a call")


def test_result_when_a_goal_was_met(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, held = started_search(rest, worker, tmp_path)
    found = search()
    publish(worker, job, held, os.urandom(100), found)
    page = open_page(f"/jobs/{job.id}/result")
    expect(page.locator("#why")).to_have_text(WHY)
    for plot in ("#size-plot", "#latency-plot"):
        expect(page.locator(f"{plot} circle")).to_have_count(5)  # the original and four that were measured
        expect(page.locator(f"{plot} circle.recommended")).to_have_count(1)
        expect(page.locator(f"{plot} .bound")).to_have_count(2)
    expect(page.locator("#point-table tbody tr")).to_have_text(
        [
            re.compile(
                "^1 layer, ternary, int8recommended2450 kB202.2×0.12 ms0.132 ms66.7×900 kB0.50 points0.70 points$"
            ),
            re.compile("^1 layer, binaryfront1310 kB.*accuracy lost 7.00 points"),
            re.compile("^2 layers, int8front115.9 MB5.72×.*−0.30 points"),
            re.compile("^3 layers1"),
            re.compile("^<b>rank 4</b>failed0"),
            re.compile("^4 layerstime was up2"),
        ]
    )
    expect(page.locator("#sensitivity tbody tr")).to_have_count(3)
    expect(page.locator("#sensitivity")).to_contain_text(STRANGE)
    expect(page.locator("#again pre").first).to_contain_text('"technique": "ternarize"')
    expect(page.locator("#again pre").last).to_contain_text('"goal":{"minimize":"size","max_drop":0.01')
    assert BEST.steps[0].technique in page.locator("#again pre").nth(2).inner_text()
    page.locator("#size-plot a").filter(has=page.locator(".recommended")).click()
    page.wait_for_url(f"**/jobs/{found.recommended}/result")


def test_result_when_nothing_met_the_goal(
    open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path
) -> None:
    job, held = started_search(rest, worker, tmp_path)
    refuse(worker, job, held, not_met(), search_in_vain())
    page = open_page(f"/jobs/{job.id}/result")
    expect(page.locator("#verdict")).to_have_text("The goal is not met")
    expect(page.locator("#notes .notice.error")).to_contain_text(WHY_NOT)
    expect(page.locator("#size-plot circle.recommended")).to_have_count(0)
    expect(page.locator("#point-table strong").first).to_have_text("front, nearest")
    expect(page.locator("#again h3")).to_have_text(["Look again"])


@pytest.mark.parametrize("path", ["/jobs/{job}", "/jobs/{job}/result"])
def test_page_of_a_goal_when_390_pixels_wide(
    open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path, path: str
) -> None:
    job, held = started_search(rest, worker, tmp_path)
    publish(worker, job, held, os.urandom(100), search())
    page = open_page(path.format(job=job.id), width=390)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_plot_shows_the_whole_of_every_word(
    open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path
) -> None:
    job, held = started_search(rest, worker, tmp_path)
    publish(worker, job, held, os.urandom(100), search())
    for width in (390, 1280):
        page = open_page(f"/jobs/{job.id}/result", width=width)
        expect(page.locator("#latency-plot circle")).to_have_count(5)
        cut = page.evaluate("""() => [...document.querySelectorAll("#search svg")].flatMap((plot) => {
            const frame = plot.getBoundingClientRect();
            return [...plot.querySelectorAll("text")].filter((text) => {
                const box = text.getBoundingClientRect();
                return box.left < frame.left || box.right > frame.right || box.bottom > frame.bottom;
            }).map((text) => text.textContent);
        })""")
        assert cut == []
