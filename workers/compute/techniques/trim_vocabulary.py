"""Remove embedding rows that the data hardly uses (Abdaoui et al., 2020); ids are mapped inside the graph."""

import numpy as np
from numpy.typing import NDArray

from app.contracts.steps.trim_vocabulary import TrimVocabulary
from app.errors import TechniqueNotApplicable
from workers.compute.datasets.samples import Samples
from workers.compute.graph.model import Model
from workers.compute.graph.vocabulary import Table, tables, trim
from workers.compute.positions import cut_positions
from workers.compute.techniques.base import Context, Outcome, dataset_of, retrain
from workers.compute.wording import shown

_ID_BYTES = 4  # of the map from ids to rows


def apply(model: Model, spec: TrimVocabulary, context: Context) -> Outcome:
    """Return a copy whose tables hold the rows in use, retrained.

    Raises TechniqueNotApplicable when a table is read in another way too, as the output of a language model is.
    """
    dataset = dataset_of(context, "trim_vocabulary")
    trimmed = model.clone()
    found = list(tables(trimmed))
    if tied := [shown(table.name) for table in found if table.tied]:
        raise TechniqueNotApplicable(_refusal(tied))
    notes, changed = [], False
    for table in found:
        kept = _kept(trimmed, table, dataset.train, spec)
        if _pays(trimmed, table, kept):
            fallback = _fallback(trimmed, table, kept, spec)
            trim(trimmed, table, kept, fallback)
            notes.append(_note(table, kept, dataset.validation))
            changed = True
        else:
            notes.append(f"{shown(table.name)} keeps its {kept.size} rows: {int(kept.sum())} of them are needed")
    if spec.positions:
        cut = cut_positions(trimmed, dataset.train.take(slice(0, 1)))
        notes.append(cut.note)
        changed = changed or cut.changed
    if not found:
        notes.append("no embedding table is looked up by an input of the model")
    return Outcome(trimmed, tuple(notes), retrain(trimmed, spec, context) if changed else ())


def _kept(model: Model, table: Table, rows: Samples, spec: TrimVocabulary) -> NDArray[np.bool_]:
    """Return which rows stay."""
    size = len(model.read(table.name))
    kept: NDArray[np.bool_] = _counts(table, rows, size) >= spec.min_count
    always = [number for number in (*spec.keep, spec.unknown) if number is not None and 0 <= number < size]
    kept[always] = True
    return kept


def _counts(table: Table, rows: Samples, size: int) -> NDArray[np.int64]:
    """Return how often the rows hold each id; negative ids count from the end, as in the graph."""
    counts = np.zeros(size, np.int64)
    for name in table.sources:
        counts += np.bincount(rows.inputs[name].astype(np.int64).reshape(-1) % size, minlength=size)
    return counts


def _pays(model: Model, table: Table, kept: NDArray[np.bool_]) -> bool:
    """Whether the rows removed take more than the map from ids to rows and a new row."""
    rows = model.read(table.name)
    return bool((int((~kept).sum()) - 1) * rows[0].nbytes > _ID_BYTES * kept.size)


def _fallback(model: Model, table: Table, kept: NDArray[np.bool_], spec: TrimVocabulary) -> int | NDArray[np.generic]:
    """Return the id or the new row that stands for the ids removed.

    A table under an earlier step's promise gets no new row, which might break it, but the kept one nearest to that.
    """
    if spec.unknown is not None and spec.unknown < kept.size:
        return spec.unknown
    values = model.read_floats(table.name)
    mean = values[~kept].mean(axis=0)
    if table.name not in model.constraints:
        return np.asarray(mean)
    distances = np.square(values[kept] - mean).sum(axis=1)
    return int(np.flatnonzero(kept)[np.argmin(distances)])


def _note(table: Table, kept: NDArray[np.bool_], validation: Samples) -> str:
    counts = _counts(table, validation, kept.size)
    missed = float(counts[~kept].sum() / max(1, counts.sum()))
    return (
        f"{shown(table.name)} keeps {int(kept.sum())} of {kept.size} rows; the others share one. "
        f"{missed:.2%} of the ids in the validation rows are among them"
    )


def _refusal(tied: list[str]) -> str:
    return (
        f"the table {', '.join(tied)} is also read other than by looking rows up, as a model is that scores its whole "
        "vocabulary; removing rows would change its outputs. Use quantize_int4, share_weights or ternarize on it"
    )
