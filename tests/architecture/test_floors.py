"""The constraints file never falls below a floor that pyproject.toml names a CVE for."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CVE = re.compile(r'"(?P<requirement>[^"]+)",\s+# .*CVE-\d{4}-\d+')


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name.strip().lower().replace("_", "-"): version.split(";")[0].strip() for name, version in pairs}


def floors() -> list[Requirement]:
    return [Requirement(found["requirement"]) for found in CVE.finditer((ROOT / "pyproject.toml").read_text())]


def test_floors_are_found() -> None:
    assert {requirement.name for requirement in floors()} >= {"starlette", "python-multipart", "onnx", "torch"}


@pytest.mark.parametrize("floor", floors(), ids=lambda floor: floor.name)
def test_pinned_version_is_not_below_the_floor(floor: Requirement) -> None:
    version = pinned().get(floor.name.lower())

    assert version is not None, f"{floor.name} is not in constraints.txt"
    assert floor.specifier.contains(version, prereleases=True), f"{floor.name} {version} is below {floor}"
