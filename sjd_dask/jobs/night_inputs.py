"""What a night starts from: the night before, and the samples as they will be once the arrivals are published."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.designs.query import query_samples
from sjd_dask.jobs.class_tables import people
from sjd_dask.jobs.classify_spec import ALL
from sjd_dask.jobs.night_state import Night, Rules, sheet_hashes
from sjd_dask.store.catalogue.samples import changed_records, checked_records, typed_column

if TYPE_CHECKING:
    from sjd_dask.store.assay import Assay
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.result import Result

# Companion tables: what each call was made from, and the counts of the newest nights for the watch of drift.
STATE, SCORES, WINDOW, DRIFT = "state", "scores", "window", "drift"
KINDS = (names.CLASSES, names.REPORTED, names.CHANGES)


@dataclass(frozen=True)
class Before:
    """The last published night of an output.

    Attributes
    ----------
    night : Night or None
        None before the first one.
    classes, scores : pyarrow.Table or None
        `classes/NAME` and its companion, by sample id.
    window : DataFrame or None
        For the watch of drift.
    newest : dict
        Newest version of each of the three results, whoever made it; 0 where there is none.
    meta : dict
        Facts of that night's `classes/NAME`.
    """

    night: Night | None
    classes: pa.Table | None
    scores: pa.Table | None
    window: pd.DataFrame | None
    newest: dict[str, int]
    meta: dict[str, Any]

    @property
    def ref(self) -> str | None:
        """Its `classes/NAME@VERSION`."""
        return self.meta.get("ref")


def read_before(cohort: Cohort, output: str) -> Before:
    """The last published night; results of other jobs under the same name count for their version numbers only."""
    found = [one for one in cohort.results() if one.kind in KINDS and one.name == output]
    newest = newest_versions(found, output)
    nights = [one for one in found if one.kind == names.CLASSES and STATE in one.tables]
    if not nights:
        return Before(None, None, None, None, newest, {})
    last = max(nights, key=lambda one: one.version)
    watched = _beside(found, last, names.CHANGES)
    window = read_window(watched) if WINDOW in watched.tables else None
    classes, scores = by_sample(last.table()), by_sample(last.table(SCORES))
    night = _night(last, classes, _beside(found, last, names.REPORTED))
    return Before(night, classes, scores, window, newest, {**last.meta, "ref": last.ref})


def newest_versions(found: Iterable[Result], output: str) -> dict[str, int]:
    """Newest version of each of the three results of an output among these; 0 where there is none."""
    every = list(found)
    return {
        f"{kind}/{output}": max((one.version for one in every if (one.kind, one.name) == (kind, output)), default=0)
        for kind in KINDS
    }


def night_of(cohort: Cohort, classes: Result) -> Night:
    """The night that published this `classes/NAME@VERSION`."""
    found = cohort.results() if classes.record.retired_in is None else cohort.results(classes.record.retired_in - 1)
    return _night(classes, by_sample(classes.table()), _beside(found, classes, names.REPORTED))


def _beside(found: Iterable[Result], classes: Result, kind: str) -> Result:
    """The result of another kind that came in the same change."""
    same = (classes.name, classes.published_in)
    return next(one for one in found if one.kind == kind and (one.name, one.published_in) == same)


def _night(last: Result, classes: pa.Table, reported: Result) -> Night:
    kept = last.meta["night_state"]
    return Night(
        calls=calls_frame(classes),
        state=last.to_pandas(STATE).set_index(names.SAMPLE_ID),
        reported=reported.to_pandas(),
        rules=Rules(**kept["rules"]),
        files=tuple((name, digest) for name, digest in kept["files"]),
        n_published=int(kept["n_samples"]),
    )


def by_sample(table: pa.Table) -> pa.Table:
    """The rows in order of sample ids."""
    ids = table[names.SAMPLE_ID].to_numpy()
    order = np.argsort(ids.astype(object), kind="stable")
    return table if np.array_equal(order, np.arange(len(order))) else table.take(order)


def calls_frame(classes: pa.Table) -> pd.DataFrame:
    """`classes/NAME` by sample id, text as objects and missing text as None."""
    data = {}
    for field in classes.schema:
        column = classes[field.name]
        text = pa.types.is_string(field.type)
        data[field.name] = _texts(column) if text else column.to_numpy().astype(np.float64)
    index = pd.Index(data.pop(names.SAMPLE_ID), name=names.SAMPLE_ID, dtype=object)
    return pd.DataFrame({name: pd.Series(one, index=index, dtype=one.dtype) for name, one in data.items()}, index=index)


def _texts(column: pa.ChunkedArray) -> NDArray[Any]:
    """Text as objects, one for each different text: classes, models and runs are few, and samples many."""
    coded = column.combine_chunks().dictionary_encode()
    different: NDArray[Any] = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
    return np.asarray(different[coded.indices.fill_null(len(different) - 1).to_numpy()])


@dataclass(frozen=True)
class Samples:
    """All samples of the assay as they will be.

    Attributes
    ----------
    assay : Assay
        With the arrivals laid over what is published.
    sheet : DataFrame
        Index: sample ids in the order they are stored; all sample columns.
    people : DataFrame
        `person_id`, `visit`, `date` as the tables have them.
    state : DataFrame
        `row_hash`, `sheet_hash`, `eligible`.
    changed_columns : int
        Samples whose columns the night changes, of any assay.
    """

    assay: Assay
    sheet: pd.DataFrame
    people: pd.DataFrame
    state: pd.DataFrame
    changed_columns: int


def read_samples(
    cohort: Cohort, assay: Assay, sheets: Sequence[pd.DataFrame], eligible: str, columns: Sequence[str]
) -> Samples:
    """The samples of an assay with tonight's sheets.

    Parameters
    ----------
    assay : Assay
        With the arrivals.
    sheets : sequence of DataFrame
        Those that win last.
    eligible : str
        A query, or `all`.
    columns : sequence of str
        Sample columns that the chain needs.

    Raises
    ------
    SpecError
        The query can't be evaluated.
    """
    records = sheet_records(sheets)
    changed = 0
    if records:
        with cohort.catalogue.read() as connection:
            changed = len(changed_records(connection, records))
    frame = overlaid(cohort.samples(), records)
    stored = pd.Index(assay.sample_ids(), name=names.SAMPLE_ID, dtype=object)
    frame.index = pd.Index([str(one) for one in frame.index], name=names.SAMPLE_ID, dtype=object)
    sheet = frame.reindex(stored).infer_objects()
    sheet.index = stored
    if eligible.strip() == ALL:
        chosen = np.ones(len(sheet), dtype=bool)
    else:
        chosen = stored.isin(query_samples(sheet, eligible, "eligible").index)
    hashes = assay.row_hashes()
    state = pd.DataFrame(
        {
            "row_hash": np.array([hashes[one] for one in stored], dtype=object),
            "sheet_hash": sheet_hashes(sheet, columns).to_numpy(dtype=object),
            "eligible": chosen,
        },
        index=stored,
    )
    return Samples(assay, sheet, people(sheet), state, changed)


def overlaid(known: pd.DataFrame, records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Sample columns as they will be once these records are published."""
    if not records:
        return known
    place = {str(one): number for number, one in enumerate(known.index)}
    for sample_id in records:
        place.setdefault(sample_id, len(place))
    whole = pd.Index(list(place), name=names.SAMPLE_ID, dtype=known.index.dtype)
    added = [None] * (len(place) - len(known))
    cells: dict[str, list[Any]] = {}
    for sample_id, record in records.items():
        for name, value in record.items():
            if name not in cells:
                cells[name] = (_cells(known[name]) if name in known else [None] * len(known)) + added
            cells[name][place[sample_id]] = value
    made = {name: known[name].reindex(whole) for name in known.columns if name not in cells}
    made |= {name: typed_column(held, whole) for name, held in cells.items()}
    order = [*known.columns, *(name for name in cells if name not in known)]
    return pd.DataFrame({name: made[name] for name in order}, index=whole)


def sheet_records(sheets: Sequence[pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """The cells that some sheets give, by sample; a later sheet's win."""
    records: dict[str, dict[str, Any]] = {}
    for sheet in sheets:
        for sample_id, record in checked_records(sheet).items():
            records[sample_id] = {**records.get(sample_id, {}), **record}
    return records


def _cells(column: pd.Series[Any]) -> list[Any]:
    held = column.astype(object)
    return list(held.where(held.notna(), None))


def carried(table: pa.Table, keep: pd.Index, said: pd.DataFrame | None = None) -> pa.Table:
    """Rows of a table of the night before, with persons, visits and dates as they are said now.

    Parameters
    ----------
    keep : Index
        Sample ids.
    said : DataFrame, optional
        From `people`, of at least these samples.
    """
    kept = table.filter(pc.is_in(table[names.SAMPLE_ID], pa.array(keep.to_numpy(dtype=object), pa.string())))
    if said is None or not kept.num_rows:
        return kept
    now = said.loc[kept[names.SAMPLE_ID].to_pylist()]
    for name in now.columns:
        cells: NDArray[Any] = now[name].to_numpy(dtype=object)
        place = kept.schema.get_field_index(name)
        kept = kept.set_column(place, kept.schema.field(place), pa.array(cells, pa.string(), from_pandas=True))
    return kept


def window_table(window: pd.DataFrame) -> pa.Table:
    """The counts of the newest nights as they are stored: lists as JSON."""
    counts = [json.dumps([int(one) for one in cells]) for cells in window["counts"]]
    return pa.Table.from_pandas(
        window.assign(counts=pd.Series(counts, window.index, dtype=object)), preserve_index=False
    )


def read_window(changes: Result) -> pd.DataFrame:
    """The reverse of `window_table`."""
    window = changes.to_pandas(WINDOW)
    counts = [json.loads(text) for text in window["counts"]]
    return window.assign(counts=pd.Series(counts, window.index, dtype=object))


def rules_json(rules: Rules) -> dict[str, Any]:
    """As the facts of a night hold them."""
    return dataclasses.asdict(rules)
