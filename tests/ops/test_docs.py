"""The documentation points at what exists and says what the code says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings
from tests.ops.conftest import CHART, ROOT
from tools.settings_table import BEGIN, END, MEANINGS, fill
from tools.values_table import page, rows

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(page.read_text("utf-8")) if "://" not in link]

    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_settings_table_is_current() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")

    assert page.count(BEGIN) == page.count(END) == 1
    assert fill(page) == page, "run: make docs"


def test_every_setting_has_a_meaning_and_no_meaning_is_left_over() -> None:
    assert set(MEANINGS) == set(Settings.model_fields)


def test_readme_of_the_chart_is_current_and_explains_every_value() -> None:
    values = (CHART / "values.yaml").read_text("utf-8")

    assert page(values) == (CHART / "README.md").read_text("utf-8"), "run: make docs"
    assert [path for path, _default, meaning in rows(values) if not meaning.endswith(".")] == []


def test_fill_when_a_page_has_text_around_the_markers_keeps_it() -> None:
    filled = fill(f"before\n{BEGIN}\nreplaced\n{END}\nafter\n")

    assert filled.startswith("before\n")
    assert filled.endswith("\nafter\n")
    assert "replaced" not in filled


def test_every_decision_names_its_check() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))

    assert [record.name for record in records if "**Enforced by**" not in record.read_text("utf-8")] == []
    index = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8")
    assert all(record.name in index for record in records)


def test_changelog_keeps_its_form() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading) for heading in headings[1:])


def test_readme_keeps_the_place_for_results() -> None:
    text = (ROOT / "README.md").read_text("utf-8")

    assert text.index("<!-- results:begin -->") < text.index("<!-- results:end -->")


def test_readme_shell_blocks_are_valid_bash() -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL):
        assert subprocess.run([bash, "-n"], input=block, text=True, check=False).returncode == 0


def test_readme_calls_exist_in_the_gateway(tmp_path: Path) -> None:
    block = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[0]
    called = {re.sub(r"\$\w+", "{}", path) for path in re.findall(r"\$server(/v1/[^?\"]+)", block)}

    served = {re.sub(r"\{\w+\}", "{}", path) for path in create_app(Settings(data_dir=tmp_path)).openapi()["paths"]}

    assert len(called) == 7
    assert called <= served
