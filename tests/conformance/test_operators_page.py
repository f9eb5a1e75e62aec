"""The page of supported operators says what the executor can do."""

from pathlib import Path

from tools.operators_table import page, supported

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"


def test_page_of_operators_is_current() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: make docs"


def test_no_operator_is_listed_twice() -> None:
    names = [(one.domain, one.name) for one in supported()]
    assert len(names) == len(set(names))
