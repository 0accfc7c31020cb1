"""What a table of scores says in a few lines: how many rows are determined, in which states, and why others are not."""

from __future__ import annotations

from collections import Counter, defaultdict
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
# Of so many different values nobody counts the rows.
_VARIOUS = 1000
_REASON = "_reason"
IDS = (names.SAMPLE_ID, names.PERSON_ID, names.VISIT, names.DATE)
# What a row was compared with, and what was asked for: no states of a row.
_NO_STATE = (_REASON, "_note", "_baseline", "_domains", "_derived", "_missing_as_negative")


def summarise(table: pa.Table, measures: Sequence[Measure]) -> dict[str, Any]:
    """Counts by measure; see `Summary.result`."""
    summary = Summary(measures)
    summary.add(table)
    return summary.result()


class Summary:
    """Counts of a table that comes in pieces.

    Parameters
    ----------
    measures : sequence of Measure
        Those that the table holds.
    """

    def __init__(self, measures: Sequence[Measure]) -> None:
        self.n_rows = 0
        self._measures = list(measures)
        # Column -> value (None: missing) -> rows.
        self._counts: defaultdict[str, Counter[Any]] = defaultdict(Counter)
        self._counted = {name for one in self._measures for name in one.columns if _is_counted(name, one)}
        # Columns that hold too many different values to be states.
        self._various: set[str] = set()
        self._missing: Counter[str] = Counter()
        # What measures that say something of all rows together look at.
        self._kept: dict[str, list[pa.Table]] = {one.name: [] for one in self._measures if one.beside is not None}

    def add(self, table: pa.Table) -> None:
        """Count the next rows."""
        self.n_rows += table.num_rows
        for measure in self._measures:
            columns = [name for name in measure.columns if name in table.column_names]
            if measure.name in columns:
                self._missing[measure.name] += table.column(measure.name).null_count
            if measure.name in self._kept:
                ids = [name for name in IDS if name in table.column_names]
                self._kept[measure.name].append(table.select([*ids, *columns]))
        for name in self._counted.intersection(table.column_names) - self._various:
            self._count(name, table.column(name))

    def _count(self, name: str, column: pa.ChunkedArray) -> None:
        counts = self._counts[name]
        for chunk in column.chunks:
            coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            codes = pc.fill_null(coded.indices, len(coded.dictionary)).to_numpy(zero_copy_only=False)
            rows = np.bincount(codes, minlength=len(coded.dictionary) + 1)
            used = np.flatnonzero(rows)
            if name.endswith(_REASON) or len(used) <= _VARIOUS:
                values = [*coded.dictionary.to_pylist(), None]
                counts.update({values[i]: int(rows[i]) for i in used})
            if not name.endswith(_REASON) and max(len(used), len(counts)) > _VARIOUS:
                self._various.add(name)
                del self._counts[name]
                return

    def result(self) -> dict[str, Any]:
        """Counts by measure.

        Returns
        -------
        dict
            Measure -> ``determined`` and ``undetermined`` rows (where it has a score of its own name), ``states``
            (column -> value -> rows; a missing value counts as ``undetermined``), ``reasons`` (the commonest, with rows
            of each), and what the measure says of all rows together, such as ``stability`` of groups over visits.
        """
        return {one.name: self._of(one) for one in self._measures}

    def _of(self, measure: Measure) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if measure.name in self._missing:
            n_missing = self._missing[measure.name]
            found["determined"], found["undetermined"] = self.n_rows - n_missing, n_missing
        states, reasons = {}, dict[str, int]()
        for name in measure.columns:
            counts = self._counts.get(name)
            if counts is None:
                continue
            if name.endswith(_REASON):
                for text, count in _words(counts, "").items():
                    if text:
                        reasons[text] = max(count, reasons.get(text, 0))
            elif 1 <= len(counts) <= MOST_STATES and set(words := _words(counts, "undetermined")) != {""}:
                states[name] = words
        found["states"] = states
        kept = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
        found["reasons"] = dict(kept[:MOST_REASONS])
        if len(kept) > MOST_REASONS:
            found["other_reasons"] = len(kept) - MOST_REASONS
        if measure.beside is not None:
            found |= measure.beside(pa.concat_tables(self._kept[measure.name]).unify_dictionaries().to_pandas())
        return found


def _is_counted(name: str, measure: Measure) -> bool:
    """Whether a column holds states or reasons."""
    states = measure.columns[name][0] in ("text", "flag") and not name.endswith(_NO_STATE)
    return states or name.endswith(_REASON)


def _words(counts: Counter[Any], missing: str) -> dict[str, int]:
    """Rows of each value as text, the commonest first."""
    found = [(missing if value is None else _word(value), count) for value, count in counts.items()]
    return dict(sorted(found, key=lambda one: (-one[1], one[0])))


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
