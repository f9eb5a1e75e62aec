"""The arrows hold: import-linter's contracts, and what a fresh interpreter loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "onnx", "onnxruntime", "onnx_ir", "numpy", "pyarrow", "workers", "modelpress")
# What the contracts may import beside the standard library and themselves.
WORDS = {"pydantic", "app"}


def test_contracts_of_import_linter_are_kept() -> None:
    linter = Path(sys.executable).parent / "lint-imports"

    found = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stdout[-3000:]


@pytest.mark.parametrize("module", ["app.main", "app.stores.migrate", "app.admin", "app.doctor.__main__"])
def test_gateway_loads_nothing_that_computes(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_compute_child_does_not_wait_for_what_one_technique_alone_needs() -> None:
    late = ("sklearn", "scipy.stats")
    code = f"import sys, workers.compute.pipeline; print([name for name in {late} if name in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((ROOT / "app" / "contracts").rglob("*.py")), ids=lambda path: path.stem)
def test_contracts_are_words_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        for name in imported(node):
            top = name.partition(".")[0]
            assert top in WORDS or top in sys.stdlib_module_names, f"{path.name} imports {name}"
            assert top != "app" or name.startswith("app.contracts"), f"{path.name} imports {name}"


@pytest.mark.parametrize("folder", ["app", "workers", "modelpress"])
def test_only_the_settings_read_the_environment(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        if path.relative_to(ROOT) != Path("app/settings.py"):
            assert "os.getenv(" not in path.read_text(), path


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []
