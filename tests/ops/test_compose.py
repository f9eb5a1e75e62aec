"""The Compose file has the production shape: two gateways behind a proxy, hardened services, nothing else published."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app.contracts.tasks import Queue
from tests.ops.conftest import CHART, ROOT, Manifest
from tools.settings_table import variables

# Of the images of the stores, and of obstore.
FOREIGN_VARIABLES = {
    "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "ROOT_ACCESS_KEY", "ROOT_SECRET_KEY",
    "AWS_ENDPOINT", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
}  # fmt: skip
STORES = {"broker", "database", "objects"}
SET_UPS = {"migration", "bucket"}  # which end
MONITORING = {"prometheus", "grafana"}


@pytest.fixture(scope="module")
def compose() -> Manifest:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


@pytest.fixture(scope="module")
def services(compose: Manifest) -> dict[str, Manifest]:
    return compose["services"]


@pytest.fixture(scope="module")
def ours(services: dict[str, Manifest]) -> dict[str, Manifest]:
    """The services that run our images."""
    return {name: body for name, body in services.items() if body["image"].startswith("modelpress-")}


def _mounted(services: dict[str, Manifest]) -> list[tuple[str, Path]]:
    """Return every service's files of this repository that it sees."""
    found = [(name, mount) for name, body in services.items() for mount in body.get("volumes", [])]
    return [(name, ROOT / mount.partition(":")[0]) for name, mount in found if mount.startswith("./")]


def test_services_are_those_of_production(services: dict[str, Manifest], ours: dict[str, Manifest]) -> None:
    gateways = {"gateway-1", "gateway-2"}

    assert set(ours) == {*gateways, "worker", "worker-checks", "worker-egress", "sweeper", "migration"}
    assert set(services) == {*ours, "proxy", "bucket", *STORES, *MONITORING}


def test_every_service_is_hardened(services: dict[str, Manifest]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service), name


def test_the_proxy_alone_is_published_and_on_loopback(services: dict[str, Manifest]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert set(published) == {"proxy"}
    assert all(port.startswith("127.0.0.1:") for port in published["proxy"])


def test_every_gateway_is_a_server_of_the_proxy(services: dict[str, Manifest]) -> None:
    servers = {address for name, address in services["proxy"]["environment"].items() if name.startswith("GATEWAY")}

    assert servers == {f"{name}:8000" for name in services if name.startswith("gateway-")}
    assert services["gateway-1"] == services["gateway-2"]


def test_two_workers_take_jobs_one_checks_and_one_pulls(ours: dict[str, Manifest]) -> None:
    pools = {name: service["command"] for name, service in ours.items() if "--queues" in service.get("command", [])}
    queues = {name: command[command.index("--queues") + 1] for name, command in pools.items()}

    assert queues == {
        "worker": Queue.CPU.value,
        "worker-checks": Queue.CHECKS.value,
        "worker-egress": Queue.EGRESS.value,
    }
    assert ours["worker"]["deploy"]["replicas"] == 2
    # A named volume would be one scratch folder for both.
    assert ours["worker"]["volumes"] == ["/var/lib/modelpress/scratch"]


def test_services_start_after_the_migration_and_the_stores(ours: dict[str, Manifest]) -> None:
    for name in set(ours) - {"migration"}:
        conditions = {need: found["condition"] for need, found in ours[name]["depends_on"].items()}
        assert conditions == {
            "migration": "service_completed_successfully",
            "broker": "service_healthy",
            "objects": "service_healthy",
        }, name


def test_what_serves_has_a_health_check(services: dict[str, Manifest]) -> None:
    for name in {"proxy", "gateway-1", "gateway-2", *STORES, *MONITORING}:
        assert services[name]["healthcheck"]["test"][0] == "CMD", name


def test_nobody_but_gateways_proxy_sweeper_and_egress_reaches_other_machines(
    compose: Manifest, services: dict[str, Manifest]
) -> None:
    closed = {name for name, network in compose["networks"].items() if network.get("internal")}

    open_ones = {name for name, body in services.items() if set(body.get("networks", [])) - closed}

    assert open_ones == {
        "proxy",
        "gateway-1",
        "gateway-2",
        "sweeper",
        "worker-egress",
        "grafana",
    }  # the proxy asks Grafana
    assert services["bucket"]["network_mode"] == "none"
    assert not set(services["proxy"]["networks"]) & closed, "the proxy sees no store"


def test_variables_are_settings(services: dict[str, Manifest], ours: dict[str, Manifest]) -> None:
    example = (ROOT / "deploy.env.example").read_text("utf-8")
    given = {line.partition("=")[0] for line in example.splitlines() if line and not line.startswith("#")}
    given |= {name for service in ours.values() for name in service["environment"]}
    given |= set(services["database"]["environment"])

    assert given - FOREIGN_VARIABLES <= set(variables())


def test_secrets_stand_in_the_environment_file_alone(services: dict[str, Manifest]) -> None:
    told = {name for service in services.values() for name in service.get("environment", {})}

    assert [name for name in told if any(word in name for word in ("PASSWORD", "SECRET", "KEY", "TOKEN"))] == []


def test_monitoring_is_a_profile_and_reads_what_the_chart_delivers(services: dict[str, Manifest]) -> None:
    assert {name for name, body in services.items() if body.get("profiles") == ["monitoring"]} == MONITORING
    mounted = _mounted(services)
    assert ("prometheus", CHART / "rules") in mounted
    assert ("grafana", CHART / "dashboards") in mounted
    assert all(path.exists() for _name, path in mounted)


def test_prometheus_asks_services_that_exist_at_the_port_that_they_have(services: dict[str, Manifest]) -> None:
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    asked = {job["job_name"]: job for job in jobs}
    workers = asked["workers"]["dns_sd_configs"][0]

    targets = asked["gateways"]["static_configs"][0]["targets"]
    assert {target.partition(":")[0] for target in targets} == {"gateway-1", "gateway-2"}
    assert set(workers["names"]) == {"worker", "worker-checks"}
    for name in workers["names"]:
        assert services[name]["environment"]["MODELPRESS_METRICS_PORT"] == str(workers["port"])
        assert set(services[name]["networks"]) & set(services["prometheus"]["networks"])


def test_stores_are_the_images_of_the_charts_trial(services: dict[str, Manifest]) -> None:
    images = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["development"]["images"]

    assert {name: services[name]["image"] for name in STORES} == images


def test_compose_accepts_the_file() -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("no docker-compose here")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "MODELPRESS_ENV_FILE": "deploy.env.example"}

    done = subprocess.run(
        [program, "config", "-q"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_haproxy_accepts_its_file(services: dict[str, Manifest]) -> None:
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        pytest.skip("no haproxy here")
    # The names are those of containers, which nobody here resolves.
    environment = {name: f"127.0.0.1:{8_000 + at}" for at, name in enumerate(services["proxy"]["environment"])}

    command = [program, "-c", "-f", str(ROOT / "deploy" / "haproxy.cfg")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
