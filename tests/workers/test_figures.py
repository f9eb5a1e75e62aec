"""What a worker counts: in this process, with real children, and of a worker process as Prometheus fetches it."""

import re
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.contracts.job import JobCreate
from app.contracts.report import Report
from app.contracts.steps import SPECS
from app.contracts.tasks import Queue, WorkKind
from app.resources import Resources
from app.stores import work
from app.stores.tables import jobs
from modelpress.stack import _with_next_metrics_port
from tests.modelpress.conftest import free_port
from tests.stand_in import stack, stand_in_job
from workers.child import Program
from workers.figures import Attempt, Figures, stage_name
from workers.supervisor import Rules
from workers.tasks import Worker, perform

Values = dict[tuple[str, ...], float]


def make_worker(resources: Resources) -> Worker:
    rules = Rules(resources.settings, Program("stand_in_child", (stack.HERE,)), threading.Event())
    return Worker(resources, rules, "test")


def values(figures: Figures, name: str) -> Values:
    samples = [sample for family in figures.registry.collect() for sample in family.samples]
    return {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ({}, "ok"),
        ({"then": "fail"}, "failed"),
        ({"then": "SIGSEGV"}, "SIGSEGV"),
        ({"then": "SIGKILL"}, "SIGKILL"),
        ({"then": "exit"}, "silent"),
        ({"then": "hang"}, "deadline"),
    ],
    ids=str,
)
def test_an_exit_is_counted_by_queue_and_cause(resources: Resources, script: dict[str, Any], cause: str) -> None:
    worker = make_worker(resources)

    perform(worker, stack.add_model(resources, script, max_run_s=2 if cause == "deadline" else 60, ring=False))

    assert values(worker.rules.figures, "modelpress_child_exits_total") == {("checks", cause): 1}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (work.request_cancel, "cancelled"),
        (lambda tx, work_id: tx.execute(work.work.update().values(fence="another attempt's")), "displaced"),
    ],
    ids=["cancelled", "displaced"],
)
def test_what_ends_a_child_from_outside_is_its_cause(
    resources: Resources, change: Callable[[Any, str], object], cause: str
) -> None:
    worker, work_id = make_worker(resources), stack.add_model(resources, {"then": "hang"}, ring=False)
    thread = threading.Thread(target=perform, args=(worker, work_id))
    thread.start()
    stack.until(lambda: stack.read(resources, work_id).stage)

    with resources.database.transaction() as tx:
        change(tx, work_id)
    thread.join(20)

    assert values(worker.rules.figures, "modelpress_child_exits_total") == {("checks", cause): 1}


def test_stages_are_timed_under_names_of_ours(resources: Resources) -> None:
    worker = make_worker(resources)
    stages = ["reading", "2/3 distill", "x" * 99, "y" * 99]

    perform(worker, stack.add_model(resources, {"stages": stages, "steps": 4}, ring=False))

    assert values(worker.rules.figures, "modelpress_stage_seconds_count") == {
        ("reading",): 1,
        ("distill",): 1,
        ("other",): 2,
    }


def test_a_stage_lasts_until_the_next_one_or_the_end() -> None:
    told: list[tuple[str, float]] = []
    times = iter([0.0, 3.0, 3.0, 10.0])
    attempt = Attempt(lambda cause: None, lambda stage, seconds: told.append((stage, seconds)), lambda: next(times))

    for stage in ("reading", "reading", "profiling"):
        attempt.enters(stage)
    attempt.ends("ok")

    assert told == [("reading", 3.0), ("profiling", 7.0)]


def test_every_stage_that_a_child_may_say_has_a_name() -> None:
    found = (stack.ROOT / "workers" / "compute").rglob("*.py")
    said = {name for path in found for name in re.findall(r"""(?:Stage|progress)\(f?"([^"]+)""", path.read_text())}
    steps = [f"{title}2/3 {name}" for title in ("", "control without teacher ") for name in SPECS]
    trying = {name for name in said if re.fullmatch(r"trying \{.+\.technique\}", name)}

    assert len(said) >= 8
    assert len(trying) == 2
    assert [name for name in [*(said - trying), *steps, "trying ternarize"] if stage_name(name) == "other"] == []


@pytest.mark.parametrize(
    "said", ["trying nonsense", "1/1 nonsense", "reading ", "1/1 distill\n", "control 1/1 distill x"]
)
def test_what_no_child_of_ours_says_has_one_name(said: str) -> None:
    assert stage_name(said) == "other"


@pytest.mark.parametrize(("before", "after", "sums"), [(12, 4, 3.0), (0, 4, 0.0), (4, 0, 0.0), (10**400, 1, 0.0)])
def test_ratio_is_the_originals_bytes_over_the_artifacts(before: int, after: int, sums: float) -> None:
    figures = Figures()
    measured = [{**stand_in_job.MEASUREMENT, "file_bytes": size} for size in (before, after)]
    report = Report.model_validate({**stand_in_job.report(0), "before": measured[0], "after": measured[1]})

    figures.succeeded(report)

    assert values(figures, "modelpress_compression_ratio_sum") == {(): sums}


def test_second_worker_of_a_machine_has_the_next_port() -> None:
    assert _with_next_metrics_port({"MODELPRESS_METRICS_PORT": "9100"}) == {"MODELPRESS_METRICS_PORT": "9101"}
    assert _with_next_metrics_port({"MODELPRESS_METRICS_PORT": "0"}) == {"MODELPRESS_METRICS_PORT": "0"}
    assert _with_next_metrics_port({}) == {}


def fetched(port: int, name: str) -> Values:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}


def job_on(resources: Resources, model: str) -> str:
    request = JobCreate.model_validate({"model": model, "recipe": {"steps": [{"technique": "share_weights"}]}})
    return stack.submit(resources, ("job", jobs), {"document": request.model_dump(mode="json")}, WorkKind.COMPRESS)


def test_a_worker_process_tells_its_figures_and_begins_anew_after_a_kill() -> None:
    port = free_port()
    with stack.data_folder() as folder, ExitStack() as over:
        settings = stack.settings_for(folder, metrics_port=port)
        resources = over.enter_context(stack.open_stores(settings))
        broker = stack.start_broker(folder)
        over.callback(stack.kill, broker)
        worker = stack.start_worker(settings)
        over.callback(lambda: stack.kill(worker, signal.SIGTERM))
        model = stack.add_model(resources, {})
        assert stack.ended(resources, model).state == "succeeded"
        assert stack.ended(resources, job_on(resources, model)).state == "succeeded"
        stack.until(lambda: fetched(port, "modelpress_compression_ratio_count") == {(): 1})
        assert fetched(port, "modelpress_child_exits_total") == {("ok", "checks"): 1, ("ok", "cpu"): 1}

        stack.kill(worker)
        worker = stack.start_worker(settings)
        assert stack.ended(resources, stack.add_model(resources, {})).state == "succeeded"
        stack.until(lambda: fetched(port, "modelpress_child_exits_total") == {("ok", "checks"): 1})

        second = stack.start_worker(settings)  # its port is taken
        over.callback(lambda: stack.kill(second, signal.SIGTERM))
        stack.until(lambda: "no figures are served" in max(folder.glob("worker-*.log")).read_text())
        stack.kill(worker)
        assert stack.ended(resources, stack.add_model(resources, {})).state == "succeeded"


def test_queue_of_a_claim_is_that_of_its_row(resources: Resources) -> None:
    with resources.database.transaction() as tx:
        work.enqueue(tx, work.Ticket("job_1", "tenant", WorkKind.COMPRESS, Queue.GPU, 60))
        held = work.claim(tx, "job_1", "worker", 30.0, 3)
    assert held is not None
    assert held.queue is Queue.GPU
