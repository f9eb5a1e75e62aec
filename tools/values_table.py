"""Write the chart's README from the comments of its values: `python tools/values_table.py helm/modelpress`.

The comment above a value is its meaning. A mapping over several lines has a row per value, one in braces has one row.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

HEAD = """# modelpress on Kubernetes

Gateway, worker pools, sweeper and migration, each pod under the "restricted" profile and with no more network than
needed. [Operations](../../docs/operations.md) says how to run them. Needs Kubernetes 1.30 or newer.

```bash
helm install modelpress helm/modelpress --namespace modelpress
```

`ci/` holds sets of values that are checked with every change: `minimal`, `everything`, `keda` and `development`, which
is a trial with its own stores. This page is written by `make docs`; `values.schema.json` refuses what does not fit.

| value | default | meaning |
| --- | --- | --- |
"""


def meaning(lines: list[str], line: int) -> str:
    """Return the comment that ends above a line, as one paragraph."""
    words: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        words.insert(0, lines[line].strip().removeprefix("#").strip())
    return " ".join(words)


def leaves(node: yaml.MappingNode, path: str = "") -> Iterator[tuple[str, yaml.Node, int]]:
    """Return every value's path, node and line, in the order of the file."""
    for key, value in node.value:
        here = f"{path}.{key.value}".removeprefix(".")
        if isinstance(value, yaml.MappingNode) and not value.flow_style and here.rpartition(".")[2] != "resources":
            yield from leaves(value, here)
        else:
            yield here, value, key.start_mark.line


def default(node: yaml.Node) -> str:
    """Return the default as JSON on one line; lists and mappings over several lines are left to the file."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        return "see `values.yaml`"
    value = yaml.safe_load(yaml.serialize(node))
    return f"`{json.dumps(value)}`" if value not in ("", [], {}) else ""


def rows(text: str) -> list[tuple[str, str, str]]:
    """Return path, default and meaning of every value."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError("the values are no mapping")
    lines = text.splitlines()
    return [(path, default(node), meaning(lines, line)) for path, node, line in leaves(root)]


def page(text: str) -> str:
    """Return the README for these values."""
    return HEAD + "".join(f"| `{path}` | {value} | {means} |\n" for path, value, means in rows(text))


def main(chart: Path) -> None:
    """Write the page beside the values."""
    (chart / "README.md").write_text(page((chart / "values.yaml").read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
