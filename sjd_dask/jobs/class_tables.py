"""The table `classes/NAME`: what became of every sample, made from what scoring gave, whole columns at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.designs.labels import label_text
from sjd_dask.jobs.score_values import NO_LABEL, REFUSED
from sjd_dask.normalise.method import PENDING_BATCH

# What stands between the classes of a conformal set.
SEPARATOR = "|"
# Columns of the companion table `scores`.
SCORE_COLUMNS = (names.SAMPLE_ID, "ood_score", "n_missing", "reason", "batch")
_PEOPLE = (names.PERSON_ID, names.VISIT, names.DATE)
_TEXT = pa.string()


def classes_schema(classes: Sequence[str]) -> pa.Schema:
    """Columns of `classes/NAME` for these classes, in order."""
    return pa.schema(
        [
            (names.SAMPLE_ID, _TEXT),
            *((name, _TEXT) for name in _PEOPLE),
            ("call", _TEXT),
            ("status", _TEXT),
            ("top_class", _TEXT),
            ("confidence", pa.float64()),
            *((f"{names.PROBABILITY}{name}", pa.float64()) for name in classes),
            ("conformal_set", _TEXT),
            ("model", _TEXT),
            ("run", _TEXT),
        ]
    )


def classes_of(table: pa.Table | pd.DataFrame) -> tuple[str, ...]:
    """The classes that a table `classes/NAME` has probabilities of."""
    columns = table.column_names if isinstance(table, pa.Table) else list(map(str, table.columns))
    return tuple(one.removeprefix(names.PROBABILITY) for one in columns if one.startswith(names.PROBABILITY))


def people(sheet: pd.DataFrame) -> pd.DataFrame:
    """Person, visit and date of samples as text, as the tables have them; None where missing or without a column.

    The visits 2, 2.0 and "2" are one; a date without a time is written year-month-day.
    """
    return pd.DataFrame({name: labels_of(sheet, name) for name in _PEOPLE}, index=sheet.index, dtype=object)


def labels_of(sheet: pd.DataFrame, name: str | None) -> NDArray[Any]:
    """A sample column as text, None where missing or without the column."""
    return _labels(sheet[name]) if name in sheet else np.full(len(sheet), None, dtype=object)


def _labels(column: pd.Series) -> NDArray[Any]:
    codes, different = pd.factorize(column)
    texts = np.empty(len(different) + 1, dtype=object)
    texts[:-1] = [_text(one) for one in different]
    texts[-1] = None  # the code of a missing value is -1
    return texts[codes]


def _text(value: Any) -> str | None:
    if isinstance(value, (pd.Timestamp, np.datetime64)):
        stamp = pd.Timestamp(value)
        return stamp.isoformat() if stamp != stamp.normalize() else stamp.date().isoformat()
    return label_text(value).strip() or None


def classes_table(
    scores: pd.DataFrame,
    sheet: pd.DataFrame,
    classes: Sequence[str],
    model: str,
    run: str,
    batch: str | None = None,
) -> tuple[pa.Table, pa.Table]:
    """The tables of a classification.

    Parameters
    ----------
    scores : DataFrame
        From `sjd_dask.jobs.score.read_scores`: index sample ids, those that were scored.
    sheet : DataFrame
        Index sample ids: all samples of the table; those without scores are not eligible. `person_id`, `visit` and
        `date` are taken as far as they are there.
    classes : sequence of str
        The classifier's, in its order.
    model : str
        NAME@VERSION.
    run : str
    batch : str, optional
        Sample column of the batch that the chain works on.

    Returns
    -------
    classes : pyarrow.Table
        `classes_schema(classes)`, one row a sample of the sheet, by sample id.
    scores : pyarrow.Table
        `SCORE_COLUMNS`: the samples that were scored, by sample id.

    Raises
    ------
    ValueError
        Scores of a sample that is not in the sheet.
    """
    ids = sheet.index.to_numpy(dtype=object)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    place = pd.Index(scores.index).get_indexer(pd.Index(ids, dtype=object))
    if int((place >= 0).sum()) != len(scores):
        raise ValueError("scores of samples that are not in the sheet")
    n, found = len(ids), place >= 0
    status = np.full(n, names.NOT_ELIGIBLE, dtype=object)
    status[found] = scores["status"].to_numpy(dtype=object)[place[found]]
    top = np.full(n, -1, dtype=np.int64)
    top[found] = scores["top"].to_numpy(dtype=np.int64)[place[found]]
    labels = np.array([*classes, None], dtype=object)
    top_class: NDArray[Any] = labels[top]
    nothing = np.full(n, None, dtype=object)
    members = scores[[f"set_{name}" for name in classes]].to_numpy(dtype=bool)
    sets = nothing.copy()
    sets[found] = conformal_text(members, classes)[place[found]]
    sets[top < 0] = None
    person = people(sheet).iloc[order]
    columns: list[Any] = [
        pa.array(ids, _TEXT),
        *(pa.array(person[name].to_numpy(dtype=object), _TEXT) for name in _PEOPLE),
        pa.array(np.where(status == names.CALLED, top_class, nothing), _TEXT),
        pa.array(status, _TEXT),
        pa.array(top_class, _TEXT),
        _numbers(scores["confidence"], place),
        *(_numbers(scores[f"{names.PROBABILITY}{name}"], place) for name in classes),
        pa.array(sets, _TEXT),
        pa.array(np.full(n, model, dtype=object), _TEXT),
        pa.array(np.full(n, run, dtype=object), _TEXT),
    ]
    there = place[found]
    reason = scores["reason"].to_numpy(dtype=object)[there]
    reason[reason == ""] = None
    missing = scores["n_missing"].to_numpy(dtype=np.int64)[there]
    companion = pa.table(
        {
            names.SAMPLE_ID: pa.array(ids[found], _TEXT),
            "ood_score": _numbers(scores["ood_score"], there),
            "n_missing": pa.array(missing, mask=missing < 0),
            "reason": pa.array(reason, _TEXT),
            "batch": pa.array(labels_of(sheet, batch)[order][found], _TEXT),
        }
    )
    return pa.Table.from_arrays(columns, schema=classes_schema(classes)), companion


def conformal_text(members: NDArray[np.bool_], classes: Sequence[str]) -> NDArray[Any]:
    """Sets of classes as text, (n,): the classes joined by `|` in their order; the empty set is ""."""
    if not len(members):
        return np.empty(0, dtype=object)
    packed = np.packbits(members, axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, codes = np.unique(keys, return_index=True, return_inverse=True)
    texts = np.empty(len(first), dtype=object)
    texts[:] = [SEPARATOR.join(name for name, is_in in zip(classes, row, strict=True) if is_in)
                for row in members[first]]  # fmt: skip
    found: NDArray[Any] = texts[codes]
    return found


def refused(scores: pd.DataFrame) -> list[str]:
    """What a person should know of samples that have no answer, in sentences that name none of them."""
    reasons = scores["reason"].to_numpy(dtype=object)
    kinds = pd.Series([one.split(":", 1)[0] for one in reasons], dtype=object).value_counts()
    said = []
    for kind, n in sorted((str(one), int(n)) for one, n in kinds.items() if one):
        word = f"{n:,} sample{'s' if n > 1 else ''}"
        if kind == PENDING_BATCH:
            said.append(f"{word}: of a batch that the model's chain has no parameters for; they wait")
        elif kind.startswith(NO_LABEL):
            said.append(f"{word}: {kind}, which the model's chain needs; they wait. Fill the sample sheet")
        elif kind == REFUSED:
            said.append(f"{word}: refused by a step of the model's chain; the table `scores` says why")
        else:
            said.append(f"{word}: put off by the model's chain as {kind.replace('_', ' ')}")
    return said


def _numbers(column: pd.Series, place: NDArray[np.int64]) -> pa.Array:
    """Numbers at these places; missing where there are none."""
    values = np.append(column.to_numpy(dtype=np.float64), np.nan)[place]
    return pa.array(values, pa.float64(), from_pandas=True)
