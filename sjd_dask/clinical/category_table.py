"""How columns of a clinical sheet become categorical variables, with what is unknown kept unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.clinical import threeway
from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import DataError, SpecError

Codes = NDArray[np.int8]

NO, YES = "no", "yes"
# A column of whole numbers is read with a point where one of them is missing.
_WHOLE = re.compile(r"(?<=\d)\.0+$")
_COMPARE = {
    "at_least": threeway.at_least,
    "at_most": threeway.at_most,
    "above": threeway.above,
    "below": threeway.below,
}


@dataclass(frozen=True)
class CategoryTable:
    """Rows by categorical variables.

    Attributes
    ----------
    names : tuple of str (p,)
    codes : ndarray of int8 (n, p)
        Category of each row, from 0; -1 is not known.
    levels : tuple of tuple of str
        Names of each variable's categories.
    """

    names: tuple[str, ...]
    codes: Codes
    levels: tuple[tuple[str, ...], ...]


def variables_of(
    sheet: Sheet, definition: Mapping[str, Any], columns: Sequence[str] | None, most_levels: int
) -> dict[str, dict[str, Any]]:
    """The variables asked for, each with how it is made.

    Parameters
    ----------
    sheet : Sheet
    definition : mapping
        Entries by name: ``present`` (sources: yes where any is) or ``first`` (the first source that is known).
    columns : sequence of str, optional
        Names of the definition, or other columns of the sheet, whose values are then the categories. By default those
        of the definition that have a column in the sheet.
    most_levels : int
        Of a column of text.

    Returns
    -------
    dict
        Name -> entry; a column of its own is ``{"column": name, "levels": [...]}``.

    Raises
    ------
    SpecError
        A name that is neither, or a column with too many levels.
    """
    if columns is None:
        return {name: dict(entry) for name, entry in definition.items() if any(map(sheet.has, _columns_of(entry)))}
    chosen: dict[str, dict[str, Any]] = {}
    for name in columns:
        if name in definition:
            chosen[name] = dict(definition[name])
        elif name in sheet.frame.columns:
            levels = sorted({one for one in _labels(sheet, name) if one is not None})
            if len(levels) > most_levels:
                raise SpecError(
                    f"column {name!r} has {len(levels)} different values ({', '.join(levels[:4])}, ...), and a "
                    f"category has {most_levels} at most: put its values into bands, or define it by cut-offs in the "
                    "definition"
                )
            chosen[name] = {"column": name, "levels": levels}
        else:
            known = [*definition, *map(str, sheet.frame.columns)]
            raise SpecError(
                f"no variable {name!r}{did_you_mean(name, known)}: give names of the definition "
                f"({', '.join(definition)}) or columns of the sheet"
            )
    if len(set(columns)) < len(columns):
        raise SpecError(f"a variable is there twice: {', '.join(columns)}")
    return chosen


def categories(sheet: Sheet, variables: Mapping[str, Mapping[str, Any]]) -> CategoryTable:
    """Categories of every row.

    Parameters
    ----------
    sheet : Sheet
    variables : mapping
        See `variables_of`.

    Raises
    ------
    DataError
        A value that was not there when the variables were set: names sample, column, value and what there was.
    """
    codes = np.full((sheet.n, len(variables)), -1, dtype=np.int8)
    levels: list[tuple[str, ...]] = []
    for j, (name, entry) in enumerate(variables.items()):
        if "levels" in entry:
            levels.append(tuple(entry["levels"]))
            codes[:, j] = _own_levels(sheet, str(entry["column"]), levels[-1])
        else:
            levels.append((NO, YES))
            flag = _flag(sheet, name, entry)
            codes[:, j] = np.where(np.isnan(flag), -1.0, flag)
    return CategoryTable(tuple(variables), codes, tuple(levels))


def _sources(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(entry.get("present") or entry.get("first") or ())


def _columns_of(entry: Mapping[str, Any]) -> list[str]:
    single = [one for source in _sources(entry) for one in (source.get("any") or [source])]
    return [str(one["column"]) for one in single if "column" in one]


def _flag(sheet: Sheet, name: str, entry: Mapping[str, Any]) -> NDArray[np.float64]:
    sources = _sources(entry)
    if not sources:
        raise SpecError(f"variable {name!r} has no sources: give `present` or `first`, each a list of columns")
    found = [_source(sheet, name, one) for one in sources]
    if "first" in entry:
        flag = found[0]
        for other in found[1:]:
            flag = np.where(np.isnan(flag), other, flag)
        return np.asarray(flag)
    return np.asarray(threeway.any_of(*found))


def _source(sheet: Sheet, name: str, source: Mapping[str, Any]) -> NDArray[np.float64]:
    if set(source) == {"any"}:
        return np.asarray(threeway.any_of(*(_source(sheet, name, one) for one in source["any"])))
    cuts = [one for one in _COMPARE if one in source]
    unknown = set(source) - {"column", *_COMPARE}
    if len(cuts) > 1 or unknown or "column" not in source:
        raise SpecError(
            f"variable {name!r}: a source has a column and one of {', '.join(_COMPARE)}; "
            f"found {', '.join(map(repr, source))}"
        )
    column = str(source["column"])
    if cuts:
        return np.asarray(_COMPARE[cuts[0]](sheet.number(column), float(source[cuts[0]])))
    return sheet.flag(column)


def _labels(sheet: Sheet, name: str) -> NDArray[np.object_]:
    """Values of a column as text, whole numbers without a point; None where missing."""
    codes, distinct = pd.factorize(sheet.text(name))
    table = np.array([*(_WHOLE.sub("", str(one)) for one in distinct), None], dtype=object)
    return np.asarray(table[codes])


def _own_levels(sheet: Sheet, column: str, levels: tuple[str, ...]) -> Codes:
    if column not in sheet.frame.columns:
        return np.full(sheet.n, -1, dtype=np.int8)
    labels = _labels(sheet, column)
    codes = pd.Index(levels, dtype=object).get_indexer(pd.Index(labels, dtype=object)).astype(np.int8)
    strange = (codes < 0) & ~pd.isna(labels)
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise DataError(
            f"sample {sheet.ids['sample_id'].iloc[row]!r}, column {column!r}: {labels[row]!r} was not there when the "
            f"groups were found ({', '.join(levels)}); {int(strange.sum()):,} such values. Recode it, leave it "
            "empty, or find the groups again"
        )
    return codes
