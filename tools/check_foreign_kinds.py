"""Check manifests of kinds that are not Kubernetes' own: `python tools/check_foreign_kinds.py rendered.yaml …`.

kubernetes-validate knows no custom resources and lets them pass; here one without a schema is an error.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

SCHEMA = json.loads(Path(__file__).with_name("foreign_kinds.json").read_text("utf-8"))
# Groups whose schemas kubernetes-validate holds; the core has no name.
OWN_GROUPS = {"", "apps", "autoscaling", "batch", "networking.k8s.io", "policy"}


def problems(manifest: dict[str, Any]) -> Iterator[str]:
    """Return what a manifest violates; nothing for Kubernetes' own kinds."""
    kind = manifest["kind"]
    if manifest["apiVersion"].rpartition("/")[0] in OWN_GROUPS:
        return
    name = f"{kind} {manifest['metadata']['name']}"
    if kind not in SCHEMA["$defs"]:
        yield f"{name}: no schema in {SCHEMA['$comment']!r}"
        return
    validator = Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]})
    for error in validator.iter_errors(manifest):
        yield f"{name}: {error.json_path}: {error.message}"


def main(paths: list[Path]) -> int:
    """Print every problem; return 1 if there is one."""
    found = [
        f"{path}: {problem}"
        for path in paths
        for manifest in yaml.safe_load_all(path.read_text("utf-8"))
        if manifest
        for problem in problems(manifest)
    ]
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
