"""Where a model came from, and what became of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.contracts.lineage import Descendant, Lineage
from app.services.caller import Caller, timestamp
from app.services.recorded import named_models
from app.stores import records
from app.stores.tables import jobs, models

_MOST = 1_000  # jobs looked at, newest first


def read(caller: Caller, model_id: str) -> Lineage:
    """Return the jobs that compressed the model, learned from it or trained it; raises NotFound."""
    with caller.resources.database.reading() as tx:
        model = records.get(tx, models, caller.tenant, model_id)
        rows = records.page(tx, jobs, caller.tenant, records.Cursor(_MOST))
    return Lineage(
        model=model_id,
        origin=model["document"].get("origin", {}),
        sha256=model["sha256"] or None,
        descendants=[found for row in rows for found in _descendants(model_id, row)],
    )


def _descendants(model_id: str, row: records.Record) -> Iterator[Descendant]:
    document: Mapping[str, Any] = row["document"]
    roles = ["compressed"] if document["model"] == model_id else []
    recipe = document["recipe"] or {}  # a search for a goal has none; its candidates have
    roles += [option for option, named in named_models(recipe) if named == model_id]
    if not roles:
        return
    yield Descendant(
        job=row["id"],
        role=roles[0],
        state=row["state"],
        dataset=document["dataset"],
        techniques=[step["technique"] for step in recipe.get("steps", [])],
        artifact=row["artifact_id"],
        created_at=timestamp(row["created_at"]),
    )
