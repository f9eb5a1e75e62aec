"""A real Prometheus reads the chart's rules, and answers every question that rules, scalers and dashboard ask."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.modelpress.conftest import free_port
from tests.ops.conftest import CHART, Render, of_kind
from tests.ops.test_chart_monitoring import DASHBOARD, _expressions
from tests.stand_in.stack import until
from tools.draw_dashboard import main as draw_dashboard
from tools.draw_dashboard import written
from tools.draw_trace import draw, ordered

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus here")
    address = f"127.0.0.1:{free_port()}"
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump({"scrape_configs": [{"job_name": "itself", **_targets(address)}]}))
    options = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address={address}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([binary, *options], stdout=log, stderr=log)
    try:
        until(lambda: _is_ready(address), 60)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)


def _targets(address: str) -> dict[str, object]:
    return {"scrape_interval": "1s", "static_configs": [{"targets": [address]}]}


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_rules_are_read(render: Render, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here")
    for manifest in of_kind(render("everything"), "PrometheusRule"):
        file = tmp_path / "rules.yml"
        file.write_text(yaml.safe_dump(manifest["spec"]))

        done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stderr


def test_every_expression_is_answered(render: Render, prometheus: str) -> None:
    expressions = _expressions([*render("keda"), *render("everything")])
    assert len(expressions) > 20
    for expression in expressions:
        asked = expression.replace("$__rate_interval", "1m").replace("$namespace", "modelpress")

        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": asked}, trust_env=False).json()

        assert answer["status"] == "success", (expression, answer)


def test_dashboard_is_drawn(prometheus: str, tmp_path: Path) -> None:
    _need_browser()
    picture = tmp_path / "dashboard.png"

    draw_dashboard(prometheus, CHART / "dashboards" / "modelpress.json", picture, 5)

    assert picture.read_bytes().startswith(PNG)


def test_every_panel_has_what_the_picture_needs() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

    assert all("legendFormat" in target for panel in panels for target in panel["targets"])
    assert {panel["fieldConfig"]["defaults"].get("unit", "short") for panel in panels} == {
        "reqps",
        "s",
        "short",
        "bytes",
    }


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [(0.25, "s", "250 ms"), (80, "s", "80 s"), (4e5, "bytes", "400 kB"), (2, "reqps", "2/s"), (0.5, "short", "0.5")],
)
def test_values_are_written_in_their_unit(value: float, unit: str, told: str) -> None:
    assert written(value, unit) == told


def _span(name: str, parent: str, start: float, *links: str) -> dict[str, object]:
    of_service = {"service": "modelpress-worker", "failed": bool(links), "links": list(links)}
    return {"id": name, "name": name, "parent": parent, "start": start, "end": start + 1, **of_service}


SPANS = [_span("b", "a", 2.0, "c"), _span("a", "client", 1.0), _span("c", "a", 1.5), _span("d", "c", 1.6)]


def test_spans_stand_below_their_parents_by_their_beginning() -> None:
    assert [(depth, span["id"]) for depth, span in ordered(SPANS)] == [(0, "a"), (1, "c"), (2, "d"), (1, "b")]


def test_trace_is_drawn(tmp_path: Path) -> None:
    _need_browser()
    picture = tmp_path / "trace.png"

    draw(SPANS, picture)

    assert picture.read_bytes().startswith(PNG)


def _need_browser() -> None:
    if not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        pytest.skip("no Chromium here")
