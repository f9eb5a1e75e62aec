"""Writes docs/problems.md from the error tree: `python -m app.problems_page`."""

import sys
from pathlib import Path

from app.errors import PROBLEM_BASE, ModelpressError

_PAGE = Path(__file__).parent.parent / "docs" / "problems.md"
_HEAD = """\
# Problems

Every refusal is `application/problem+json` (RFC 9457). Its `type` is `{base}<name>` and never changes its meaning;
`detail` says what was found, `errors[]` points into the request body, `retryable` says whether the same request may
work later, `at_fault` who must act. Failed jobs carry the same object.

This page is written by `python -m app.problems_page`.
"""


def every_problem() -> list[type[ModelpressError]]:
    """Return every error class once, by slug."""
    found: dict[str, type[ModelpressError]] = {}
    pending: list[type[ModelpressError]] = [ModelpressError]
    while pending:
        kind = pending.pop(0)
        found.setdefault(kind.slug, kind)
        pending.extend(kind.__subclasses__())
    return sorted(found.values(), key=lambda kind: kind.slug)


def page() -> str:
    """Return the page: one section per problem, by name."""
    sections = [_HEAD.format(base=PROBLEM_BASE)]
    for kind in every_problem():
        meaning = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
        who = "the user" if kind.at_fault == "user" else "the service"
        retry = "may work later" if kind.retryable else "will not work later as it is"
        sections.append(
            f'## {kind.slug}\n\n<a id="{kind.slug}"></a>**{kind.title}** · {kind.status} · {who} acts · '
            f"the same request {retry}\n\nCause: {meaning}\n\nCure: {kind.cure}\n"
        )
    return "\n".join(sections)


if __name__ == "__main__":
    _PAGE.write_text(page())
    sys.stdout.write(f"wrote {_PAGE.name}\n")
