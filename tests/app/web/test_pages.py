import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.contracts.job import JobState
from app.errors import GuardNotMet, ModelMalformed, TimeLimitExceeded
from app.problems import problem_of
from modelpress import Client
from tests.app.acting_worker import ActingWorker
from tests.modelpress.conftest import serving, wait_for
from tests.modelpress.publishing import VERDICT, publish, refuse, say, started_job, train

pytestmark = pytest.mark.browser
Opener = Callable[..., Page]


def newest_model(rest: Client, known: set[str]) -> str:
    found: list[str] = []
    wait_for(lambda: found.extend(model.id for model in rest.models() if model.id not in known) or found)
    return found[0]


def test_start_when_a_model_is_uploaded_and_a_job_submitted(
    open_page: Opener, rest: Client, worker: ActingWorker, model_file: Path
) -> None:
    known = {model.id for model in rest.models()}
    page = open_page("/")
    page.get_by_label("model file").set_input_files(model_file)
    worker.accept_model(newest_model(rest, known))
    expect(page.locator("#model-picker .chosen")).to_contain_text("10 parameters")
    page.get_by_role("button", name="Quick: int8").click()
    page.get_by_label("Reduce range").check()
    page.get_by_text("Load time, controls").click()
    page.get_by_label("Most that decoding may add").fill("25")
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/jobs/job_\w+$"))
    job = rest.job(page.url.rpartition("/")[2])
    assert job.recipe.steps[0].model_dump()["reduce_range"] is True
    assert job.recipe.max_load_ms == 25
    expect(page.locator("#state")).to_have_text("queued")


def test_start_when_the_model_is_rejected(
    open_page: Opener, rest: Client, worker: ActingWorker, model_file: Path
) -> None:
    known = {model.id for model in rest.models()}
    page = open_page("/")
    page.get_by_label("model file").set_input_files(model_file)
    worker.reject(newest_model(rest, known), ModelMalformed("The file ends too early."))
    expect(page.locator("#model-picker .notice")).to_contain_text("The file ends too early.")
    expect(page.locator("#model-picker .notice")).to_contain_text("What helps:")
    expect(page.get_by_role("button", name="Start the job")).to_be_disabled()


def test_start_when_options_are_wrong(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, _ = started_job(rest, worker, tmp_path)
    page = open_page(f"/?model={job.model}&dataset={job.dataset}")
    page.get_by_role("button", name="Fast:").click()
    page.get_by_label("Keep", exact=True).fill("0")
    page.get_by_role("button", name="Start the job").click()
    expect(page.locator("[data-error='/recipe/steps/0/keep']")).to_contain_text("greater than or equal to 1")
    expect(page.get_by_label("Keep", exact=True)).to_have_attribute("aria-invalid", "true")


def test_start_when_a_control_is_asked_for(
    open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path
) -> None:
    job, _ = started_job(rest, worker, tmp_path)
    page = open_page(f"/?model={job.model}&dataset={job.dataset}")
    page.get_by_role("button", name="Quick: int8").click()
    page.get_by_text("Load time, controls").click()
    page.get_by_label("Without teacher").check()
    page.get_by_role("button", name="Start the job").click()
    expect(page.locator("#controls ~ [data-error]")).to_contain_text("leave without_teacher out")
    page.get_by_role("button", name="Small:").click()
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(rf"/jobs/(?!{job.id})job_\w+$"))
    assert rest.job(page.url.rpartition("/")[2]).recipe.controls == ["without_teacher"]
    expect(page.locator("#request")).to_contain_text("without teacher")


def test_recipe_when_steps_are_added_moved_and_removed(open_page: Opener) -> None:
    page = open_page("/")
    titles = page.locator("#steps h3")
    for technique in ("distill", "prune_layers"):
        page.get_by_label("Technique to add").select_option(technique)
        page.get_by_role("button", name="Add step").click()
    page.get_by_role("button", name="Move up step 2").click()
    expect(titles).to_have_text(["1. Prune layers", "2. Distil"])
    page.get_by_role("button", name="Remove step 1").click()
    expect(titles).to_have_text(["1. Distil"])


def test_recipe_when_options_are_lists(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, _ = started_job(rest, worker, tmp_path)
    page = open_page(f"/?model={job.model}&dataset={job.dataset}")
    for technique in ("prune_neurons", "trim_vocabulary"):
        page.get_by_label("Technique to add").select_option(technique)
        page.get_by_role("button", name="Add step").click()
    page.get_by_role("group", name="Kinds").get_by_label("Heads").uncheck()
    page.get_by_label("Keep", exact=True).fill("5, 7")
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(rf"/jobs/(?!{job.id})job_\w+$"))
    steps = [step.model_dump() for step in rest.job(page.url.rpartition("/")[2]).recipe.steps]
    assert steps[-2]["kinds"] == ["neurons", "channels", "hidden units"]
    assert steps[-1]["keep"] == [5, 7]


def test_job_when_it_trains_and_ends(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, held = started_job(rest, worker, tmp_path)
    page = open_page(f"/jobs/{job.id}")
    expect(page.locator("#state")).to_have_text("running")
    train(worker, held, "prune_layers", 6)
    say(worker, held, kind="log", stage="distill", message="<b>kept</b> layers 0 and 5")
    train(worker, held, "distill", 6)
    expect(page.locator("#stages li")).to_have_count(2)
    expect(page.locator("#percent")).to_have_text("50 %")
    expect(page.locator("#log")).to_contain_text("<b>kept</b> layers 0 and 5")
    expect(page.locator("#loss-chart polyline")).to_have_count(4)
    publish(worker, job, held, os.urandom(1000))
    expect(page.locator("#state")).to_have_text("succeeded")
    page.get_by_role("link", name="See the result").click()
    expect(page.locator("#verdict")).to_have_text(VERDICT)


def test_job_when_cancelled_by_keyboard(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, _ = started_job(rest, worker, tmp_path)
    page = open_page(f"/jobs/{job.id}")
    page.get_by_role("button", name="Cancel", exact=True).press("Enter")
    page.get_by_role("button", name="Keep it running").press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("cancelling")
    assert rest.job(job.id).state is JobState.CANCELLING


def test_job_when_failed(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, held = started_job(rest, worker, tmp_path)
    worker.end(held, JobState.FAILED, problem_of(TimeLimitExceeded()))
    page = open_page(f"/jobs/{job.id}")
    expect(page.locator("#outcome")).to_contain_text("limits.max_run_s")


def test_job_when_it_can_be_resumed(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, held = started_job(rest, worker, tmp_path)
    worker.leave_checkpoint(held)
    page = open_page(f"/jobs/{job.id}")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Resume")).to_be_hidden()
    worker.end(held, JobState.FAILED, problem_of(TimeLimitExceeded()))
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#state")).to_have_text("queued")
    expect(page.get_by_role("button", name="Resume")).to_be_hidden()
    assert rest.job(job.id).state is JobState.QUEUED


def test_job_when_unknown(open_page: Opener) -> None:
    page = open_page("/jobs/job_" + "0" * 26)
    expect(page.locator("#problem")).to_contain_text("Not found")


def test_result_when_files_are_downloaded(
    open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path
) -> None:
    job, held = started_job(rest, worker, tmp_path)
    content = os.urandom(5000)
    publish(worker, job, held, content)
    page = open_page(f"/jobs/{job.id}/result")
    expect(page.locator("#changes tbody tr")).to_have_count(4)
    expect(page.locator("#causes-card")).to_be_hidden()
    expect(page.locator("#layer-table tbody tr")).to_have_count(6)
    expect(page.locator("#share-chart rect")).to_have_count(7)  # six tensors and everything else
    expect(page.locator("#share-chart svg")).to_have_attribute("aria-label", re.compile(r"everything else 28\.0 %"))
    expect(page.locator("#control-table thead")).to_contain_text("Without teacher")
    expect(page.locator("#control-table tbody")).to_contain_text("+3.60 (+2.20 to +5.00) points, n = 1000 test rows")
    with page.expect_download() as model:
        page.get_by_role("button", name="Download model.onnx").click()
    assert Path(model.value.path()).read_bytes() == content
    with page.expect_download() as card:
        page.get_by_role("button", name="Model card").click()
    assert VERDICT in Path(card.value.path()).read_text()


def test_result_when_the_guard_was_not_met(
    open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path
) -> None:
    job, held = started_job(rest, worker, tmp_path)
    refuse(worker, job, held, problem_of(GuardNotMet("accuracy fell by 0.13.")))
    page = open_page(f"/jobs/{job.id}/result")
    expect(page.locator("#notes .notice.error")).to_contain_text("accuracy fell by 0.13.")
    expect(page.locator("#causes li")).to_have_text(["Leave out `head.weight`."])
    expect(page.locator("#causes tbody tr")).to_have_text(
        [
            "accuracy in step 1, ternarize0.94000.8100−0.1300",
            "recall of <b>cat0.90000.4000−0.500060",
            "38<b>cat<b>catdog",
            "head.weightGemm0.4670.9300+0.12003.84 kB1.03 kByes",
        ]
    )


def test_result_when_a_benchmark_fails(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, held = started_job(rest, worker, tmp_path)
    publish(worker, job, held, os.urandom(1000))
    page = open_page(f"/jobs/{job.id}/result")
    with page.expect_response(lambda answer: answer.url.endswith("/benchmarks")) as asked:
        page.get_by_role("button", name="Run a benchmark").click()
    worker.reject(asked.value.json()["id"], TimeLimitExceeded())
    expect(page.locator("#benchmark-result")).to_contain_text("time limit was reached")


def test_jobs_when_one_moves_on(open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path) -> None:
    job, held = started_job(rest, worker, tmp_path)
    page = open_page("/jobs")
    row = page.locator("#jobs tbody tr").filter(has=page.locator(f"[title='{job.id}']"))
    expect(row.locator(".badge")).to_have_text("running")
    publish(worker, job, held, os.urandom(1000))
    expect(row.locator(".badge")).to_have_text("succeeded")


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/{job}", "/jobs/{job}/result"])
def test_page_when_390_pixels_wide(
    open_page: Opener, rest: Client, worker: ActingWorker, tmp_path: Path, path: str
) -> None:
    job, held = started_job(rest, worker, tmp_path)
    publish(worker, job, held, os.urandom(1000))
    page = open_page(path.format(job=job.id), width=390)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_page_when_keys_are_on(open_page: Opener, tmp_path: Path) -> None:
    with serving(tmp_path, MODELPRESS_API_KEYS='{"right": "us"}') as gateway:
        page = open_page("/jobs", base=gateway.url)
        expect(page.locator("#key-help")).to_have_text("This server asks for a key.")
        page.locator("#key-field").fill("right")
        page.get_by_role("button", name="Use").click()
        expect(page.locator("#jobs")).to_contain_text("No job yet.")
        page.close()


def test_page_when_the_server_goes_away(open_page: Opener, tmp_path: Path) -> None:
    with serving(tmp_path) as gateway:
        page = open_page("/", base=gateway.url)
        expect(page.get_by_role("button", name="Quick: int8")).to_be_visible()
    page.get_by_label("model file").set_input_files({"name": "m.onnx", "mimeType": "", "buffer": b"x"})
    expect(page.locator("#model-picker")).to_contain_text("modelpress up")


def test_a_chart_shows_every_digit_of_its_smallest_values(open_page: Opener) -> None:
    page = open_page("/")
    cut = page.evaluate("""async () => {
        const { lineChart } = await import("/static/charts.js");
        const place = document.querySelector("main").appendChild(document.createElement("div"));
        place.className = "chart";
        lineChart(place, [{ name: "training", mark: "a", points: [[0, 0.00000766, 0], [1, 0.638, 0]] }], "Loss");
        const edge = place.querySelector("svg").getBoundingClientRect().left;
        return [...place.querySelectorAll("text")].filter((text) => text.getBoundingClientRect().left < edge)
            .map((text) => text.textContent);
    }""")
    assert cut == []
