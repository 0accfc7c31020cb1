"""What a table of scores says in a few lines: how many rows are determined, in which states, and why others are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sjd_dask import names
from sjd_dask.clinical.measures import Measure

# A text column with more different values is no state.
MOST_STATES = 12
MOST_REASONS = 5
# A dictionary may hold texts that no row has.
_VARIOUS = 1000
_REASON = "_reason"
IDS = (names.SAMPLE_ID, names.PERSON_ID, names.VISIT, names.DATE)
# What a row was compared with, and what was asked for: no states of a row.
_NO_STATE = (_REASON, "_note", "_baseline", "_domains", "_derived", "_missing_as_negative")


def summarise(table: pa.Table, measures: Sequence[Measure]) -> dict[str, Any]:
    """Counts by measure.

    Returns
    -------
    dict
        Measure -> ``determined`` and ``undetermined`` rows (where it has a score of its own name), ``states`` (column
        -> value -> rows; a missing value counts as ``undetermined``), ``reasons`` (the commonest, with rows of each),
        and what the measure says of all rows together, such as ``stability`` of groups over visits.
    """
    return {one.name: _of(table, one) for one in measures}


def _of(table: pa.Table, measure: Measure) -> dict[str, Any]:
    found: dict[str, Any] = {}
    columns = [name for name in measure.columns if name in table.column_names]
    if measure.name in columns:
        n_missing = table.column(measure.name).null_count
        found["determined"], found["undetermined"] = table.num_rows - n_missing, n_missing
    states = {}
    for name in columns:
        kind = measure.columns[name][0]
        if kind not in ("text", "flag") or name.endswith(_NO_STATE):
            continue
        if _is_various(table.column(name)):
            continue
        counts = _counts(table.column(name), "undetermined")
        if 1 <= len(counts) <= MOST_STATES and set(counts) != {""}:
            states[name] = counts
    found["states"] = states
    reasons: dict[str, int] = {}
    for name in columns:
        if name.endswith(_REASON):
            for text, count in _counts(table.column(name), "").items():
                if text:
                    reasons[text] = max(count, reasons.get(text, 0))
    kept = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    found["reasons"] = dict(kept[:MOST_REASONS])
    if len(kept) > MOST_REASONS:
        found["other_reasons"] = len(kept) - MOST_REASONS
    if measure.beside is not None:
        ids = [name for name in IDS if name in table.column_names]
        found |= measure.beside(table.select([*ids, *columns]).to_pandas())
    return found


def _counts(column: pa.ChunkedArray, missing: str) -> dict[str, int]:
    """Rows of each value as text, the commonest first."""
    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if not pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_encode()
    codes = pc.fill_null(whole.indices, len(whole.dictionary)).to_numpy(zero_copy_only=False)
    counts = np.bincount(codes, minlength=len(whole.dictionary) + 1)
    values = [*whole.dictionary.to_pylist(), None]
    found = [(missing if values[i] is None else _word(values[i]), int(counts[i])) for i in np.flatnonzero(counts)]
    return dict(sorted(found, key=lambda one: (-one[1], one[0])))


def _is_various(column: pa.ChunkedArray) -> bool:
    """Whether a column of texts has too many different ones for states: ids, lists of what was found."""
    return pa.types.is_dictionary(column.type) and column.num_chunks > 0 and len(column.chunk(0).dictionary) > _VARIOUS


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
