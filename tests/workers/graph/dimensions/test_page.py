"""The page of coupled dimensions says what the code finds."""

from pathlib import Path

from tools.dimensions_table import page

PAGE = Path(__file__).resolve().parents[4] / "docs" / "dimensions.md"


def test_page_of_dimensions_is_current() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: make docs"
