"""Pins, targets, images and the Compose file hold together."""

import re
import shutil
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from app.contracts.tasks import Queue
from tests.ops.conftest import ROOT, Manifest
from tools.settings_table import variables

# Of the images of PostgreSQL and Compose itself, not ours.
FOREIGN_VARIABLES = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == [], "every line is an exact pin"
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


@pytest.fixture(scope="module")
def compose() -> Manifest:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


@pytest.fixture(scope="module")
def ours(compose: Manifest) -> dict[str, Manifest]:
    """The services of the Compose file that run our images."""
    return {name: body for name, body in compose["services"].items() if body["image"].startswith("modelpress-")}


def test_every_dependency_is_pinned_within_its_range(pins: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    for requirement in map(Requirement, named):
        if requirement.name != "modelpress":
            assert requirement.specifier.contains(pins[requirement.name.lower()]), requirement


def test_checkov_and_all_it_needs_is_pinned() -> None:
    lines = (ROOT / "tools" / "checkov-constraints.txt").read_text("utf-8").split()

    assert "checkov==3.3.30" in lines
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_torch_is_pinned_the_same_everywhere(pins: dict[str, str]) -> None:
    pin = f"torch=={pins['torch']}"

    assert pin in (ROOT / "Makefile").read_text("utf-8")
    assert pin in (ROOT / "Dockerfile").read_text("utf-8")


def test_help_explains_every_target() -> None:
    text = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert targets is not None
    make = shutil.which("make")
    assert make is not None

    shown = subprocess.run([make, "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert set(re.findall(r"make ([a-z0-9-]+)", shown)) == set(targets[1].split())


def test_ci_run_is_executable_and_valid_bash() -> None:
    script = ROOT / ".ci" / "run"
    bash = shutil.which("bash")
    assert bash is not None

    assert script.stat().st_mode & 0o111 == 0o111
    assert subprocess.run([bash, "-n", str(script)], check=False).returncode == 0


def test_dockerfile_builds_with_any_builder() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")

    assert "--mount" not in text
    assert "<<" not in text
    assert "# syntax" not in text


def test_image_targets_run_as_a_number_and_have_health_checks() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    finals = {stage.split()[2]: stage for stage in stages if re.match(r"runtime AS (gateway|worker)\b", stage)}

    assert set(finals) == {"gateway", "worker"}
    assert all("HEALTHCHECK" in stage and "RUN" not in stage for stage in finals.values())
    assert "USER 10001:10001" in next(stage for stage in stages if "AS runtime" in stage)


def test_gateway_image_installs_no_worker_package() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    gateway = next(stage for stage in stages if stage.startswith("build AS build-gateway"))

    assert '".[gateway]"' in gateway
    assert "torch" not in gateway


def test_compose_services_are_hardened(ours: dict[str, Manifest]) -> None:
    assert set(ours) == {"gateway", "worker", "worker-checks", "worker-egress", "sweeper", "migration"}
    for name, service in ours.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service, name


def test_compose_services_start_after_the_migration(ours: dict[str, Manifest]) -> None:
    for name in set(ours) - {"migration"}:
        assert ours[name]["depends_on"]["migration"] == {"condition": "service_completed_successfully"}, name


def test_compose_workers_cover_what_needs_no_gpu(ours: dict[str, Manifest]) -> None:
    commands = [service.get("command", []) for service in ours.values()]
    queues = {command[command.index("--queues") + 1] for command in commands if "--queues" in command}

    assert queues == {Queue.CPU.value, Queue.CHECKS.value, Queue.EGRESS.value}


def test_compose_variables_are_settings(compose: Manifest, ours: dict[str, Manifest]) -> None:
    example = (ROOT / "deploy.env.example").read_text("utf-8")
    given = {line.partition("=")[0] for line in example.splitlines() if line and not line.startswith("#")}
    given |= {name for service in ours.values() for name in service["environment"]}
    given |= set(compose["services"]["database"]["environment"])

    assert given - FOREIGN_VARIABLES <= set(variables())


def test_compose_ports_are_loopback(compose: Manifest) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_stores_and_gateway_have_health_checks(compose: Manifest) -> None:
    for name in ("gateway", "broker", "database"):
        assert compose["services"][name]["healthcheck"]["test"][0] == "CMD", name


def test_environment_file_is_not_committed() -> None:
    assert "deploy.env" in (ROOT / ".gitignore").read_text("utf-8").split()
