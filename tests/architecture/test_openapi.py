"""The description of the API changes on purpose only: `python -m tests.architecture.test_openapi` writes it anew."""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

from app.api.openapi import operations
from app.contracts.steps import SPECS
from app.main import create_app
from app.settings import Settings

SNAPSHOT = Path(__file__).parent / "openapi.json"


def described(folder: Path) -> dict[str, Any]:
    app = create_app(Settings(data_dir=folder, blob_url="memory:///"))
    with app.state.resources:
        return dict(app.openapi())


def without_techniques(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave the techniques' own options out: adding one edits nothing else."""
    kept = copy.deepcopy(schema)
    for spec in SPECS.values():
        del kept["components"]["schemas"][spec.__name__]
    del kept["components"]["schemas"]["Recipe"]["properties"]["steps"]["items"]
    return kept


def written(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def test_description_is_the_committed_one(tmp_path: Path) -> None:
    assert written(without_techniques(described(tmp_path))) == SNAPSHOT.read_text(), (
        f"if this is meant: python -m {__name__}"
    )


def test_every_reference_leads_somewhere(tmp_path: Path) -> None:
    schema = described(tmp_path)

    for reference in references(schema):
        assert reference.removeprefix("#/components/schemas/") in schema["components"]["schemas"]


def test_no_call_answers_with_the_frameworks_errors(tmp_path: Path) -> None:
    schema = described(tmp_path)

    assert "HTTPValidationError" not in written(schema)
    for path, method, operation in operations(schema):
        assert "application/problem+json" in operation["responses"]["default"]["content"], (method, path)


def references(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node))
    return set()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        SNAPSHOT.write_text(written(without_techniques(described(Path(folder)))))
