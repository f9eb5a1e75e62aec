"""Follows docs/adding-a-technique.md to the letter in a copy of the code."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops.conftest import ROOT

BLOCK = re.compile(r"<!-- file: (\S+) -->\n```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code with the page's files added."""
    for name in ("app", "workers"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, text in BLOCK.findall((ROOT / "docs" / "adding-a-technique.md").read_text("utf-8")):
        path = tmp_path / name
        assert not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tmp_path


def _run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, timeout=100)


def test_the_pages_own_test_when_followed_passes(copy: Path) -> None:
    done = _run(copy, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "tests")

    assert done.returncode == 0, done.stdout[-3000:]
    assert "1 passed" in done.stdout


def test_gateway_when_the_page_is_followed_knows_the_technique(copy: Path) -> None:
    script = (
        "import json; from app.contracts.technique import techniques; from app.contracts.recipe import Recipe;"
        "Recipe.model_validate({'steps': [{'technique': 'clip_weights'}]});"
        "print(json.dumps({info.name: info.options for info in techniques()}))"
    )

    done = _run(copy, "-c", script)

    assert done.returncode == 0, done.stderr[-3000:]
    assert "deviations" in json.loads(done.stdout)["clip_weights"]["properties"]


def test_the_pages_code_is_clean(copy: Path) -> None:
    names = [name for name, _ in BLOCK.findall((ROOT / "docs" / "adding-a-technique.md").read_text("utf-8"))]
    for command in (["check", "--no-cache"], ["format", "--no-cache", "--check"]):
        done = _run(copy, "-m", "ruff", *command, *names)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
