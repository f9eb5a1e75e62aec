"""What has been kept for long enough: old artifacts, old jobs with theirs, models and data sets that nothing names.

Never goes what unfinished work or a trigger needs, nor a model or data set that a job which stays names. Records go in
small batches, each in one transaction; their bytes are collected later, as those of every record that is gone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, delete, select, union, update

from app.settings import Retention
from app.stores import naming
from app.stores.database import Database, now
from app.stores.tables import artifacts, benchmarks, datasets, jobs, models, work
from app.stores.work import UNENDED

Noun = Literal["artifacts", "jobs", "models", "datasets"]
_ALL = "*"
_DAY_S = 86_400.0
_BATCH = 100


@dataclass(frozen=True)
class Gone:
    """Records of one kind that went, or would go, and the bytes that they name."""

    tenant: str
    noun: Noun
    ids: list[str] = field(default_factory=list)
    bytes: int = 0


def apply(database: Database, rules: Mapping[str, Retention]) -> Iterator[Gone]:
    """Remove what the rules let go, and yield each batch after its commit; whoever stops asking stops the removing.

    `rules` are by tenant, `*` is for all others. Raises DependencyUnavailable.
    """
    for tenant, rule in _by_tenant(database, rules):
        if rule.artifacts_days is not None:
            yield from _in_batches(database, tenant, "artifacts", rule.artifacts_days)
        if rule.jobs_days is not None:
            yield from _in_batches(database, tenant, "jobs", rule.jobs_days)
        for noun, table, days in _unused(rule):
            yield from _remove_unused(database, tenant, noun, table, days)


def foreseen(database: Database, rules: Mapping[str, Retention]) -> Iterator[Gone]:
    """Yield for each tenant and kind what `apply` would remove; changes nothing and locks nothing."""
    for tenant, rule in _by_tenant(database, rules):
        with database.reading() as tx:
            going = _rows(tx, _old_jobs(tenant, rule.jobs_days)) if rule.jobs_days is not None else []
            left = _rows(tx, _old_artifacts(tenant, rule.artifacts_days)) if rule.artifacts_days is not None else []
            ids = {row["id"] for row in going}
            found = {row["id"]: row for row in [*left, *_artifacts_of(tx, ids)]}
            yield _gone(tenant, "artifacts", list(found.values()))
            yield _gone(tenant, "jobs", going)
            ids |= _benchmarks_of(tx, found)
            for noun, table, days in _unused(rule):
                kept = naming.named(tx, tenant, ids)
                yield _gone(
                    tenant, noun, [row for row in _rows(tx, _old(table, tenant, days)) if row["id"] not in kept]
                )


def _by_tenant(database: Database, rules: Mapping[str, Retention]) -> Iterator[tuple[str, Retention]]:
    if not rules:
        return
    with database.reading() as tx:
        known = union(*(select(table.c.tenant) for table in (artifacts, jobs, models, datasets)))
        tenants = sorted(tx.execute(known).scalars())
    for tenant in tenants:
        rule = rules.get(tenant, rules.get(_ALL))
        if rule is not None:
            yield tenant, rule


def _unused(rule: Retention) -> Iterator[tuple[Noun, Table, float]]:
    if rule.unused_models_days is not None:
        yield "models", models, rule.unused_models_days
    if rule.unused_datasets_days is not None:
        yield "datasets", datasets, rule.unused_datasets_days


def _in_batches(database: Database, tenant: str, noun: Noun, days: float) -> Iterator[Gone]:
    while True:
        with database.transaction() as tx:
            gone = _remove_jobs(tx, tenant, days) if noun == "jobs" else [_remove_old_artifacts(tx, tenant, days)]
        yield from gone
        if len(gone[0].ids) < _BATCH:
            return


def _remove_old_artifacts(tx: Connection, tenant: str, days: float) -> Gone:
    chosen = _old_artifacts(tenant, days).limit(_BATCH).with_for_update(of=artifacts, skip_locked=True)
    rows = _rows(tx, chosen)
    _forget_artifacts(tx, [row["id"] for row in rows])
    return _gone(tenant, "artifacts", rows)


def _remove_jobs(tx: Connection, tenant: str, days: float) -> list[Gone]:
    """Remove jobs with their artifacts; a job that somebody resumes at this moment is left alone."""
    rows = _rows(tx, _old_jobs(tenant, days).limit(_BATCH).with_for_update(of=work, skip_locked=True))
    ids = [row["id"] for row in rows]
    left = _artifacts_of(tx, ids)
    _forget_artifacts(tx, [row["id"] for row in left])
    tx.execute(delete(jobs).where(jobs.c.id.in_(ids)))
    tx.execute(delete(work).where(work.c.id.in_(ids)))  # history, checkpoint and candidates' places go with it
    return [_gone(tenant, "jobs", rows), _gone(tenant, "artifacts", left)]


def _forget_artifacts(tx: Connection, ids: Sequence[str]) -> None:
    """Delete artifacts with their benchmarks; the job, and the search that recommends one, name it no more."""
    timed = list(tx.execute(select(benchmarks.c.id).where(benchmarks.c.artifact_id.in_(ids))).scalars())
    tx.execute(delete(benchmarks).where(benchmarks.c.id.in_(timed)))
    tx.execute(delete(work).where(work.c.id.in_(timed)))
    owners = select(artifacts.c.job_id).where(artifacts.c.id.in_(ids))
    searches = select(work.c.parent_id).where(work.c.id.in_(owners), work.c.parent_id.is_not(None))
    for named_by in (owners, searches):
        named = (jobs.c.id.in_(named_by), jobs.c.artifact_id.in_(ids))
        tx.execute(update(jobs).where(*named).values(artifact_id=None))
    tx.execute(delete(artifacts).where(artifacts.c.id.in_(ids)))


def _remove_unused(database: Database, tenant: str, noun: Noun, table: Table, days: float) -> Iterator[Gone]:
    """Remove what no record names: one pass over all documents first, then each one is looked for again."""
    with database.reading() as tx:
        kept = naming.named(tx, tenant, ())
        ids = [row["id"] for row in _rows(tx, _old(table, tenant, days)) if row["id"] not in kept]
    for start in range(0, len(ids), _BATCH):
        with database.transaction() as tx:
            still = [
                row
                for row in _among(tx, table, ids[start : start + _BATCH])
                if not naming.is_named(tx, tenant, row["id"])
            ]
            going = [row["id"] for row in still]
            tx.execute(delete(table).where(table.c.id.in_(going)))
            tx.execute(delete(work).where(work.c.id.in_(going)))
        yield _gone(tenant, noun, still)


def _old_artifacts(tenant: str, days: float) -> Select[Any]:
    own, search = work.alias(), work.alias()
    searched = select(own.c.id).join(search, search.c.id == own.c.parent_id)
    searched = searched.where(own.c.id == artifacts.c.job_id, search.c.state.in_(UNENDED))
    mine = (artifacts.c.tenant == tenant, artifacts.c.created_at < _before(days))
    chosen = select(artifacts.c.id, artifacts.c.document).where(*mine, ~searched.exists(), ~_timed(artifacts.c.id))
    return chosen.order_by(artifacts.c.id)


def _old_jobs(tenant: str, days: float) -> Select[Any]:
    """Select ended jobs; a candidate stays as long as its search, and a search as long as it has open candidates."""
    search, candidate = work.alias(), work.alias()
    young = search.c.state.in_(UNENDED) | (search.c.ended_at >= _before(days))
    searched = select(search.c.id).where(search.c.id == work.c.parent_id, young).exists()
    searching = (
        select(candidate.c.id).where(candidate.c.parent_id == work.c.id, candidate.c.state.in_(UNENDED)).exists()
    )
    own = select(artifacts.c.id).where(artifacts.c.job_id == jobs.c.id, _timed(artifacts.c.id)).exists()
    ended = (work.c.state.not_in(UNENDED), work.c.ended_at < _before(days))
    chosen = select(jobs.c.id, jobs.c.document).join(work, work.c.id == jobs.c.id)
    return chosen.where(jobs.c.tenant == tenant, *ended, ~searched, ~searching, ~own).order_by(jobs.c.id)


def _old(table: Table, tenant: str, days: float) -> Select[Any]:
    checked = select(work.c.id).where(work.c.id == table.c.id, work.c.state.in_(UNENDED)).exists()
    chosen = select(table.c.id, table.c.document).where(table.c.tenant == tenant, table.c.created_at < _before(days))
    return chosen.where(~checked).order_by(table.c.id)


def _timed(artifact_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a benchmark of the artifact has not ended."""
    timing = work.alias()
    of_it = and_(benchmarks.c.artifact_id == artifact_id, timing.c.state.in_(UNENDED))
    return select(benchmarks.c.id).join(timing, timing.c.id == benchmarks.c.id).where(of_it).exists()


def _before(days: float) -> ColumnElement[float]:
    return now() - days * _DAY_S


def _rows(tx: Connection, chosen: Select[Any]) -> Sequence[Any]:
    return tx.execute(chosen).mappings().all()


def _among(tx: Connection, table: Table, ids: Sequence[str]) -> Sequence[Any]:
    return _rows(tx, select(table.c.id, table.c.document).where(table.c.id.in_(ids)).with_for_update(skip_locked=True))


def _artifacts_of(tx: Connection, job_ids: Iterable[str]) -> Sequence[Any]:
    found: list[Any] = []
    ids = list(job_ids)
    for start in range(0, len(ids), _BATCH):  # a statement takes so many values and not all
        wanted = artifacts.c.job_id.in_(ids[start : start + _BATCH])
        found += _rows(tx, select(artifacts.c.id, artifacts.c.document).where(wanted))
    return found


def _benchmarks_of(tx: Connection, artifact_ids: Iterable[str]) -> set[str]:
    ids = list(artifact_ids)
    found: set[str] = set()
    for start in range(0, len(ids), _BATCH):
        wanted = benchmarks.c.artifact_id.in_(ids[start : start + _BATCH])
        found.update(tx.execute(select(benchmarks.c.id).where(wanted)).scalars())
    return found


def _gone(tenant: str, noun: Noun, rows: Sequence[Any]) -> Gone:
    return Gone(tenant, noun, [row["id"] for row in rows], sum(_bytes(row["document"]) for row in rows))


def _bytes(document: Mapping[str, Any]) -> int:
    """Return the bytes that a record names: of an artifact those of its files and their compressed copies."""
    files = document.get("variants", {}).values()
    own, coded = (sum(int(file.get(name, 0)) for file in files) for name in ("size_bytes", "zstd_bytes"))
    return int(document.get("size_bytes", 0)) + own + coded
