"""`modelpress optimize` against a gateway of its own; a thread plays the worker that searches."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer
from sqlalchemy import select
from typer.testing import Result

from app.contracts.goal import Goal
from app.contracts.job import JobState
from app.contracts.search import Search
from app.resources import connect
from app.stores.tables import work
from modelpress import Client, InvalidInput, Recipe
from modelpress.cli.optimize import count
from modelpress.cli.quantities import seconds, size_bytes
from modelpress.cli.running import follow
from modelpress.cli.units import goal_words
from tests.app.acting_worker import ActingWorker
from tests.app.searches import BEST, WHY, WHY_NOT, not_met, search, search_in_vain
from tests.modelpress.conftest import Gateway
from tests.modelpress.publishing import VERDICT, publish, refuse, say, started_job

CONTENT = os.urandom(50_000)


@dataclass
class Searcher:
    """Accepts uploads and ends every job with what it was told to find."""

    worker: ActingWorker
    client: Client
    found: Search = field(default_factory=search)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(0.05):
            with self.worker.resources.database.reading() as tx:
                queued = tx.execute(select(work.c.id).where(work.c.state == JobState.QUEUED)).scalars().all()
            for work_id in queued:
                self.do(work_id)

    def do(self, work_id: str) -> None:
        if work_id.startswith("mdl_"):
            self.worker.accept_model(work_id)
        elif work_id.startswith("dst_"):
            self.worker.accept_dataset(work_id)
        else:
            self.look(work_id)

    def look(self, job_id: str) -> None:
        held, job = self.worker.claim(job_id), self.client.job(job_id)
        say(self.worker, held, kind="log", stage="round 1", message="1 layer, ternary: 202× smaller")
        if self.found.recommended is None:
            refuse(self.worker, job, held, not_met(), self.found)
        else:
            publish(self.worker, job, held, CONTENT, self.found)


@pytest.fixture
def searcher(own_gateway: Gateway) -> Iterator[Searcher]:
    with connect(own_gateway.settings) as resources, Client(own_gateway.url) as client:
        made = Searcher(ActingWorker(resources), client)
        thread = threading.Thread(target=made.run)
        thread.start()
        yield made
        made.over.set()
        thread.join()


def test_optimize_when_it_finds_something(run: Callable[..., Result], searcher: Searcher, tmp_path: Path) -> None:
    found = run("optimize", "m.onnx", "--data", "d.npz", "--dense")

    assert found.exit_code == 0, found.output
    assert VERDICT in found.stdout
    assert WHY in found.stdout
    rows = [line.split() for line in found.stdout.splitlines() if " kB " in line or " MB " in line]
    assert [(" ".join(row[:4]), row[-1]) for row in rows] == [
        ("1 layer, binary 310", "allowed"),
        ("1 layer, ternary, int8", "recommended"),
        ("2 layers, int8 15.9", "yes"),
    ]
    assert rows[1][4:] == ["450", "kB", "202.22×", "66.67×", "0.50", "pts", "0.70", "pts", "yes", "recommended"]
    assert "3 layers" not in found.stdout  # beaten in everything: not on the front
    assert "1 layer, ternary: 202× smaller" in found.stderr
    assert (tmp_path / "out" / "model.onnx").read_bytes() == CONTENT
    assert (tmp_path / "out" / "dense.onnx").read_bytes() == CONTENT * 2
    assert WHY in (tmp_path / "out" / "report.md").read_text()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["search"]["why"] == WHY


def test_recipe_that_was_found_can_be_run_again(run: Callable[..., Result], searcher: Searcher, tmp_path: Path) -> None:
    run("optimize", "m.onnx", "--data", "d.npz")

    again = run("compress", "m.onnx", "--data", "d.npz", "--recipe", "out/recipe.json")

    assert again.exit_code == 0, again.output
    assert Recipe.model_validate_json((tmp_path / "out" / "recipe.json").read_text()) == BEST
    assert next(searcher.client.jobs()).recipe == BEST


def test_optimize_when_every_bound_is_given(run: Callable[..., Result], searcher: Searcher) -> None:
    quality = ("--metric", "macro_f1", "--max-drop", "0.02", "--max-recall-drop", "0.1")
    bounds = ("--max-size", "4MB", "--max-p50-ms", "1.5", "--max-memory", "64MiB")
    aim = ("--minimize", "latency", "--batch-size", "8", "--device", "mobile", "--budget", "20m")

    found = run("optimize", "m.onnx", "--data", "d.npz", *quality, *bounds, *aim, "--seed", "3", "--json")

    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert set(told["files"]) == {"report.json", "report.md", "model.onnx", "recipe.json"}
    job = searcher.client.job(told["job"]["id"])
    assert job.goal == Goal(
        minimize="latency",
        metric="macro_f1",
        max_drop=0.02,
        max_recall_drop=0.1,
        max_size_bytes=4_000_000,
        max_p50_ms=1.5,
        max_resident_bytes=64 * 2**20,
        batch_size=8,
        device="mobile",
        budget_s=1200,
    )
    assert (job.seed, job.recipe, job.guard) == (3, None, None)
    assert "goal: least latency, macro F1 may lose 2.00 pts" in run("jobs", "--limit", "1").stdout


def test_optimize_when_nothing_else_is_said_has_the_goals_defaults(
    run: Callable[..., Result], searcher: Searcher
) -> None:
    told = json.loads(run("optimize", "m.onnx", "--data", "d.npz", "--json").stdout)

    assert searcher.client.job(told["job"]["id"]).goal == Goal()


def test_optimize_when_nothing_meets_the_goal(run: Callable[..., Result], searcher: Searcher, tmp_path: Path) -> None:
    searcher.found = search_in_vain()

    found = run("optimize", "m.onnx", "--data", "d.npz", "--max-size", "1kB")

    assert found.exit_code == 4
    assert "guard-not-met" in found.stderr
    assert found.stdout.startswith("The goal is not met.")
    assert VERDICT not in found.stdout  # it is that of the nearest, which was not asked for
    assert WHY_NOT in found.stdout
    nearest = found.stdout[found.stdout.index("closest to the goal") :]
    assert nearest.index("1 layer, ternary, int8") < nearest.index("1 layer, binary")
    assert f"modelpress download {searcher.found.points[4].artifact}" in nearest
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.json", "report.md"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--max-size", "4XB"), "4XB"),
        (("--budget", "soon"), "soon"),
        (("--budget", "10s"), "budget_s"),
        (("--batch-size", "4"), "batch_size"),
        (("--max-drop", "2"), "--max-drop"),
        (("--minimize", "weight"), "--minimize"),
    ],
)
def test_optimize_when_used_wrongly(run: Callable[..., Result], arguments: tuple[str, ...], said: str) -> None:
    found = run("optimize", "m.onnx", *arguments)

    assert (found.exit_code, said in found.stderr) == (2, True), found.stderr


@pytest.mark.parametrize(
    ("text", "size"),
    [("4MB", 4_000_000), ("500kB", 500_000), ("123", 123), ("1.5 gb", 1_500_000_000), ("2KiB", 2048), ("7B", 7)],
)
def test_size_when_typed_by_people(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize(("text", "spent"), [("90s", 90), ("20m", 1200), ("2h", 7200), ("300", 300), ("1.5h", 5400)])
def test_budget_when_typed_by_people(text: str, spent: int) -> None:
    assert seconds(text) == spent


@pytest.mark.parametrize("text", ["", "MB", "-4MB", "4 MB more", "٤MB", "1e9"])
def test_size_when_it_is_none(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 4MB"):
        size_bytes(text)


def test_goal_when_told_in_words() -> None:
    goal = Goal(minimize="memory", max_recall_drop=0.1, max_size_bytes=10**6, max_p50_ms=1.5, max_resident_bytes=10**7)

    assert goal_words(goal, "regression") == (
        "least memory, r2 may lose 0.0100, any class's recall 10.00 pts, at most 1 MB, at most 1.5 ms a call, "
        "at most 10 MB of memory"
    )


def test_goal_when_a_field_is_unknown(client: Client) -> None:
    with pytest.raises(InvalidInput, match="max_dorp"):
        client.optimize("mdl_" + "0" * 26, {"max_dorp": 0.1})


def test_goal_when_a_guard_is_given_too(client: Client, worker: ActingWorker, tmp_path: Path) -> None:
    guarded = started_job(client, worker, tmp_path)[0]
    with pytest.raises(InvalidInput, match="bounds of its own"):
        client.optimize(guarded.model, {"max_drop": 0.1}, guard={"max_drop": 0.1})  # type: ignore[typeddict-item]  # wrong on purpose


def test_candidates_are_counted_among_the_jobs_of_their_parent(
    client: Client, worker: ActingWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent, _ = started_job(client, worker, tmp_path)
    asked = threading.Event()

    class Two:
        def jobs(self, *, parent: object) -> Iterator[object]:
            yield self.of("succeeded", parent.id)
            yield self.of("running", parent.id)
            yield self.of("succeeded", None)

        def of(self, state: str, parent_id: str | None) -> object:
            return parent.model_copy(update={"state": JobState(state), "parent": parent_id})

        def wait(self, *_: object) -> object:
            assert asked.wait(10)
            return parent

    def aside() -> str:
        said = count(Two(), parent)  # type: ignore[arg-type]  # a double
        asked.set()
        return said

    follow(Two(), parent, quiet=False, aside=aside)  # type: ignore[arg-type]  # as above

    assert "1 of 2 candidates ended" in capsys.readouterr().err
