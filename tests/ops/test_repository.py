"""Pins, targets and images hold together."""

import re
import shutil
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.ops.conftest import ROOT


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == [], "every line is an exact pin"
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


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


def test_images_keep_the_list_of_their_components_where_their_label_says() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    label = re.search(r'dev\.modelpress\.sbom="([^"]+)"', "".join(stages))
    assert label is not None

    for target in ("gateway", "worker"):
        built = next(stage for stage in stages if stage.startswith(f"build AS build-{target}"))
        # After the last installation, so that it lists everything.
        assert built.rindex("cyclonedx-py environment") > built.rindex(" install ")
        assert f"--output-file {label[1]} /opt/modelpress/bin/python" in built


def test_images_are_checked_by_a_script_that_is_valid_bash() -> None:
    script = ROOT / "tools" / "check_images.sh"
    bash = shutil.which("bash")
    assert bash is not None

    assert script.stat().st_mode & 0o111 == 0o111
    assert subprocess.run([bash, "-n", str(script)], check=False).returncode == 0


def test_gateway_image_installs_no_worker_package() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    gateway = next(stage for stage in stages if stage.startswith("build AS build-gateway"))

    assert '".[gateway]"' in gateway
    assert "torch" not in gateway


def test_environment_file_is_not_committed() -> None:
    assert "deploy.env" in (ROOT / ".gitignore").read_text("utf-8").split()
