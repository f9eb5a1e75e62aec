"""Which records name a model or a data set: anywhere in their documents, so that no kind of step is forgotten."""

import re
from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, Table, Text, cast, select, union_all

from app.stores.tables import benchmarks, jobs, triggers, work
from app.stores.work import UNENDED

_NAMED = re.compile(r"(?:mdl|dst)_[0-9a-z]{26}")
_NAMING = (jobs, benchmarks, triggers)


def named(tx: Connection, tenant: str, without: Iterable[str]) -> set[str]:
    """Return the ids of models and data sets that the tenant's jobs, benchmarks and triggers name.

    `without` are records that do not count.
    """
    left_out, found = set(without), set()
    for table in _NAMING:
        chosen = select(table.c.id, cast(table.c.document, Text)).where(table.c.tenant == tenant)
        for row_id, text in tx.execute(chosen.execution_options(yield_per=1_000)):
            if row_id not in left_out:
                found.update(_NAMED.findall(text))
    return found


def is_named(tx: Connection, tenant: str, row_id: str) -> bool:
    """Whether any of the tenant's jobs, benchmarks and triggers names it."""
    return any(
        tx.execute(select(table.c.id).where(*_names(table, tenant, row_id)).limit(1)).first() for table in _NAMING
    )


def needing(tx: Connection, tenant: str, row_id: str) -> str | None:
    """Return the id of what still needs it: a job or a benchmark that has not ended, or a trigger."""
    at_work = [
        select(table.c.id)
        .join(work, work.c.id == table.c.id)
        .where(*_names(table, tenant, row_id), work.c.state.in_(UNENDED))
        for table in (jobs, benchmarks)
    ]
    waiting = select(triggers.c.id).where(*_names(triggers, tenant, row_id))
    return tx.execute(union_all(*at_work, waiting).limit(1)).scalar()


def _names(table: Table, tenant: str, row_id: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.tenant == tenant, cast(table.c.document, Text).contains(row_id, autoescape=True)
