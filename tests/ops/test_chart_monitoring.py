"""Monitors, rules and dashboard ask for figures that exist, and every alert has its place in the runbook."""

import json
import re

import pytest
import yaml

from tests.ops.conftest import CHART, ROOT, Manifest, Render, named, of_kind, pods
from tools.check_foreign_kinds import problems

DASHBOARD = json.loads((CHART / "dashboards" / "modelpress.json").read_text("utf-8"))
# What every gateway tells from the database, the same as the others.
SHARED = {
    "modelpress_queue_depth",
    "modelpress_queue_age_seconds",
    "modelpress_lease_age_seconds",
    "modelpress_jobs_ended",
    "modelpress_attempts_lost",
    "modelpress_stored_bytes",
}
# What a process tells of itself.
OWN = {
    "modelpress_requests_total",
    "modelpress_request_seconds",
    "modelpress_child_exits_total",
    "modelpress_stage_seconds",
    "modelpress_compression_ratio",
    "modelpress_spans_dropped_total",
}
NAME = re.compile(r"modelpress_\w+")


def _figures(expression: str) -> set[str]:
    return {name.removesuffix("_bucket") for name in NAME.findall(expression)}


def _shown() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def _alerts(manifests: list[Manifest]) -> list[Manifest]:
    rules = of_kind(manifests, "PrometheusRule")
    return [rule for manifest in rules for group in manifest["spec"]["groups"] for rule in group["rules"]]


def _expressions(manifests: list[Manifest]) -> list[str]:
    triggers = [trigger for scaler in of_kind(manifests, "ScaledObject") for trigger in scaler["spec"]["triggers"]]
    alerts = [alert["expr"] for alert in _alerts(manifests)]
    return [*_shown(), *alerts, *(trigger["metadata"]["query"] for trigger in triggers)]


def test_manifests_of_foreign_kinds_fit_their_schemas(manifests: list[Manifest]) -> None:
    assert [problem for manifest in manifests for problem in problems(manifest)] == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("ScaledObject", ("minReplicaCount",), "x"),
        ("ScaledObject", ("maxReplica",), 3),
        ("ScaledObject", ("triggers", 0, "metadata", "threshold"), 2),
        ("ScaledObject", ("fallback", "failureThreshold"), None),
        ("ServiceMonitor", ("endpoints", 0, "interval"), "often"),
        ("PodMonitor", ("podMetricsEndpoints",), []),
        ("PrometheusRule", ("groups", 0, "rules", 0, "exp"), "1"),
        ("HTTPRoute", ("rules", 0, "backendRefs", 0, "port"), "http"),
    ],
)
def test_schemas_refuse_what_does_not_fit(
    render: Render, kind: str, path: tuple[str | int, ...], value: object
) -> None:
    manifest = of_kind([*render("keda"), *render("everything")], kind)[0]
    place = manifest["spec"]
    for step in path[:-1]:
        place = place[step]

    place[path[-1]] = value

    assert list(problems(manifest))


def test_kinds_without_a_schema_are_refused(render: Render) -> None:
    monitor = {**of_kind(render("keda"), "PodMonitor")[0], "kind": "Probe"}

    assert list(problems(monitor))


def test_figures_are_those_that_gateway_and_workers_tell() -> None:
    files = ("app/api/figures.py", "workers/figures.py", "app/traces.py")
    told = "".join((ROOT / file).read_text("utf-8") for file in files)
    for name in SHARED | OWN:
        assert f'"{name.removesuffix("_total")}"' in told, name


def test_only_figures_that_exist_are_asked_for(render: Render) -> None:
    for expression in _expressions([*render("keda"), *render("everything")]):
        assert _figures(expression) <= SHARED | OWN, expression
        assert _figures(expression), expression


def test_dashboard_shows_every_figure() -> None:
    assert set().union(*map(_figures, _shown())) == SHARED | OWN


def test_figures_of_the_database_are_taken_once_not_once_per_gateway(render: Render) -> None:
    for expression in _expressions([*render("keda"), *render("everything")]):
        bare = re.sub(r"(max( by \([\w, ]+\))? ?\((delta\()?|absent\()modelpress_\w+", "", expression)
        assert not _figures(bare) & SHARED, expression


def test_series_of_other_releases_are_left_out(render: Render) -> None:
    for expression in _expressions(render("keda")):
        matched = re.findall(r"modelpress_\w+\{namespace=\"(?:modelpress|\$namespace)\"", expression)
        assert len(matched) == len(NAME.findall(expression)), expression


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in lines}
        assert max(columns) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_dashboard_is_delivered_whole_and_labelled(render: Render) -> None:
    config = named(render("everything"), "ConfigMap")["shop-modelpress-dashboard"]

    assert json.loads(config["data"]["modelpress.json"]) == DASHBOARD
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_every_alert_has_a_section_in_the_runbook(render: Render) -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.MULTILINE)
    alerts = {alert["alert"]: alert["annotations"] for alert in _alerts(render("everything"))}

    assert set(alerts) == {heading for heading in headings if re.fullmatch(r"Modelpress\w+", heading)}
    for name, annotations in alerts.items():
        assert annotations["runbook"] == f"docs/operations.md#{name.lower()}"
        assert annotations["runbook_url"] == f"https://example.com/modelpress/operations#{name.lower()}"


def test_rules_are_those_of_the_file_that_compose_gives_to_prometheus(render: Render) -> None:
    written = yaml.safe_load((CHART / "rules" / "modelpress.yaml").read_text("utf-8"))["groups"][0]["rules"]
    rendered = _alerts(render("keda", "monitoring.rules.queueAgeSeconds=3600"))

    for alert in rendered:
        alert["expr"] = re.sub(r'namespace="modelpress",?', "", alert["expr"])
    assert rendered == written


def test_monitors_find_their_ports(render: Render) -> None:
    manifests = render("everything")
    gateway = of_kind(manifests, "ServiceMonitor")[0]["spec"]
    service = named(manifests, "Service")["shop-modelpress-gateway"]
    workers = of_kind(manifests, "PodMonitor")[0]["spec"]

    assert gateway["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert gateway["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]
    (selected,) = workers["selector"]["matchExpressions"]
    pools = {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod for pod in pods(manifests).values()}
    assert set(selected["values"]) == {component for component in pools if component.startswith("worker-")}
    for component in selected["values"]:
        ports = [port["name"] for port in pools[component]["spec"]["containers"][0]["ports"]]
        assert workers["podMetricsEndpoints"][0]["port"] in ports


def test_monitors_and_rules_bear_the_labels_that_prometheus_selects_by(render: Render) -> None:
    for manifest in of_kind(render("everything"), "ServiceMonitor", "PodMonitor", "PrometheusRule"):
        assert manifest["metadata"]["labels"]["release"] == "prometheus"


def test_every_check_that_checkov_skips_has_its_reason() -> None:
    lines = (ROOT / ".ci" / "checkov.yaml").read_text("utf-8").splitlines()
    skipped = yaml.safe_load("\n".join(lines))["skip-check"]

    for check in skipped:
        above = lines[lines.index(f"  - {check}") - 1]
        assert re.fullmatch(r"  # .{20,}\.", above), check
