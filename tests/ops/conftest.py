"""The chart rendered once per values file."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "modelpress"
VALUES = (CHART / "values.yaml", *sorted((CHART / "ci").glob("*.yaml")))

Manifest = dict[str, Any]
Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., list[Manifest]]


@pytest.fixture(scope="session")
def helm_binary() -> str:
    bundled = ROOT / ".cache" / "tools" / "helm"
    binary = str(bundled) if bundled.exists() else shutil.which("helm")
    if binary is None:
        pytest.skip("no helm here: make .cache/tools/helm")
    return binary


@pytest.fixture(scope="session")
def helm(helm_binary: str) -> Helm:
    """Render the chart."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [helm_binary, "template", "shop", str(CHART), "--namespace", "modelpress", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """Render the chart and read what it made; a name alone is a set of values under `ci/`."""

    def run(name: str, *settings: str) -> list[Manifest]:
        chosen = [word for setting in settings for word in ("--set", setting)]
        done = helm("--values", str(CHART / "ci" / f"{name}.yaml"), *chosen)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return run


@pytest.fixture(scope="session", params=VALUES, ids=lambda path: path.stem)
def manifests(request: pytest.FixtureRequest, helm: Helm) -> list[Manifest]:
    done = helm("--values", str(request.param))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in of_kind(manifests, kind)}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return every pod template (metadata and spec) by the name of its workload."""
    found = of_kind(manifests, "Deployment", "StatefulSet", "DaemonSet", "Job")
    return {manifest["metadata"]["name"]: manifest["spec"]["template"] for manifest in found}


def containers(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return every container, init containers too, by workload and name."""
    return {
        f"{workload}/{container['name']}": container
        for workload, pod in pods(manifests).items()
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    }


def ours(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the containers that run our images; the others belong to the stores of a trial."""
    found = containers(manifests).items()
    return {name: body for name, body in found if body["image"].rpartition("/")[2].startswith("modelpress-")}


def environment(container: Manifest) -> dict[str, str]:
    """Return the variables that stand in a container as they are."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
