"""Every problem is documented, once, and the page is the one that the code writes."""

from pathlib import Path

import pytest

from app.errors import ModelpressError
from app.problems import problem_of
from app.problems_page import every_problem, page

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"


def test_page_is_the_committed_one() -> None:
    assert PAGE.read_text() == page(), "run python -m app.problems_page"


@pytest.mark.parametrize("kind", every_problem(), ids=lambda kind: kind.slug)
def test_problem_has_title_cure_and_status(kind: type[ModelpressError]) -> None:
    problem = problem_of(kind())

    assert problem.name == kind.slug
    assert 400 <= problem.status <= 599
    assert problem.title
    assert problem.cure
    assert (kind.__doc__ or "").strip()


def test_every_class_below_the_root_has_its_own_name() -> None:
    kinds, seen = [ModelpressError], []
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if "slug" in vars(kind):
            seen.append(kind.slug)

    # ServiceFault repeats the root's name on purpose: it is the same problem to a client.
    assert sorted(set(seen)) == sorted(seen) or {slug for slug in seen if seen.count(slug) > 1} == {"internal-error"}
