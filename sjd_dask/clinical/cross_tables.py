"""Two labellings of the same people side by side: counts, shares, odds and tests, without counts of few people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from sjd_dask.clinical.few_people import hide_small
from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.contingency import independence
from sjd_dask.kernels.multiplicity import benjamini_hochberg

AXIS_COLUMNS = ("axis1_state", "axis2_state", "axis3_state", "dominant")


@dataclass(frozen=True)
class CrossTable:
    """Counts of two labellings, and what they say.

    Attributes
    ----------
    counts : DataFrame of Int64
        Levels of the first in rows, of the second in columns; missing where hidden.
    row_totals, column_totals : Series of Int64
    cells : DataFrame
        A row for each cell: ``first``, ``second``, ``n``, ``share_of_first`` (of those with the first's level),
        ``share_of_second``, ``odds_ratio`` of having both levels against neither, ``odds_low``, ``odds_high`` (95 %),
        ``p_value`` (Fisher), ``q_value`` (Benjamini-Hochberg over the cells that are shown), ``hidden``.
    test : dict
        ``test`` (chi2, permutation, fisher, none), ``statistic``, ``df``, ``p_value``, ``cramer_v``, ``n``,
        ``missing_first`` and ``missing_second`` (rows without a label, which are left out), ``suppressed_below``,
        ``hidden`` (cells that are).
    """

    counts: pd.DataFrame
    row_totals: pd.Series
    column_totals: pd.Series
    cells: pd.DataFrame
    test: dict[str, Any]


def cross_table(
    first: pd.Series | Sequence[object],
    second: pd.Series | Sequence[object],
    *,
    persons: pd.Series | Sequence[object] | None = None,
    minimum: int = 5,
    key: str = "",
    untold: Iterable[str] = (),
) -> CrossTable:
    """Cross two labellings.

    Parameters
    ----------
    first, second : Series or sequence
        Labels; two Series are joined by their index (sample ids), sequences stand in one order. Missing labels are
        left out and counted.
    persons : optional
        Whose row it is; a person with two labelled rows is refused, since they would count as two people.
    minimum : int
        Counts of 1 to `minimum` - 1 people are hidden, with as many others as it takes that they can't be worked out
        from the totals; 0 or 1 hides nothing.
    key : str
        Names the tables that are drawn where chi-square can't be trusted.
    untold : iterable of str
        Levels of the first whose totals are hidden in any case, since they are in what is shown beside this table.

    Raises
    ------
    DataError
        No row with both labels; ids that repeat; a person with several rows.
    SpecError
        A negative minimum, or sequences of different lengths.

    Notes
    -----
    Odds ratios are those of the sample, intervals Woolf's (without one where a count is 0), p-values Fisher's exact
    ones. A table of two by two that fails Cochran's rule is tested by Fisher's test. Numbers are made from all counts;
    those of hidden cells are hidden, and so is the statistic of a table of two by two with a hidden cell.
    """
    if minimum < 0:
        raise SpecError(f"minimum {minimum}: counts below it are hidden, so it is 0 or more")
    labels = _joined(first, second, persons)
    missing = {f"missing_{name}": int(labels[name].isna().sum()) for name in ("first", "second")}
    known = labels.dropna(subset=["first", "second"])
    if known.empty:
        raise DataError(f"of {len(labels):,} rows none has both labels: there is nothing to compare")
    if "person" in known:
        twice = known["person"].dropna().duplicated()
        if twice.any():
            name = known["person"].dropna()[twice].iloc[0]
            raise DataError(
                f"person {str(name)!r} has several rows ({int(twice.sum()):,} rows too many in all), which would count "
                "as several people; keep one visit a person, such as the baseline"
            )
    table = pd.crosstab(known["first"].to_numpy(), known["second"].to_numpy())
    counts = table.to_numpy().astype(np.int64)
    rows, columns = [str(one) for one in table.index], [str(one) for one in table.columns]
    also = np.zeros((counts.shape[0] + 1, counts.shape[1] + 1), dtype=bool)
    also[:-1, -1] = np.isin(rows, list(untold))
    veil = hide_small(counts, minimum, also=also)
    hidden, hidden_rows, hidden_columns = veil[:-1, :-1], veil[:-1, -1], veil[-1, :-1]
    test = _tested(counts, hidden, key)
    told = {name: None if 0 < count < minimum else count for name, count in missing.items()}
    test |= {
        "n": None if veil[-1, -1] else int(counts.sum()),
        **told,
        "suppressed_below": minimum,
        "hidden": int(hidden.sum()),
    }
    shown = pd.DataFrame(counts, rows, columns).astype("Int64").mask(pd.DataFrame(hidden, rows, columns))
    return CrossTable(
        shown,
        pd.Series(counts.sum(axis=1), rows, dtype="Int64").mask(hidden_rows),
        pd.Series(counts.sum(axis=0), columns, dtype="Int64").mask(hidden_columns),
        _cells(counts, hidden, hidden_rows, hidden_columns, rows, columns),
        test,
    )


def untold_groups(groups: pd.Series | Sequence[object], minimum: int) -> tuple[str, ...]:
    """Groups whose size is not told where several tables of them stand side by side: small ones, and what hides them.

    Parameters
    ----------
    groups : Series or sequence
        Group of each person; missing ones are left out.
    minimum : int
    """
    sizes = pd.Series(groups, dtype=object).dropna().astype(str).value_counts().sort_index()
    if sizes.empty:
        return ()
    hidden = hide_small(sizes.to_numpy()[None, :], minimum)[0, :-1]
    return tuple(str(one) for one in sizes.index[hidden])


def axes_by_group(
    axes: pd.DataFrame,
    groups: pd.Series,
    *,
    persons: pd.Series | None = None,
    columns: Iterable[str] = AXIS_COLUMNS,
    minimum: int = 5,
) -> dict[str, CrossTable]:
    """States of the axes, and the dominant one, by molecular class or any other grouping.

    Parameters
    ----------
    axes : DataFrame
        Result of the measure `axes`, with ``sample_id`` as column or index.
    groups : Series
        Group by sample id.
    persons : Series, optional
        Person by sample id; default: the column ``person_id`` where `axes` has one.
    columns
        The text columns to cross.
    minimum
        As in `cross_table`.

    Returns
    -------
    dict
        Column -> `CrossTable`; columns in which no sample has both labels are left out.
    """
    indexed = axes.set_index("sample_id") if "sample_id" in axes else axes
    if persons is None and "person_id" in indexed:
        persons = indexed["person_id"]
    found = {}
    for name in columns:
        if name not in indexed:
            raise SpecError(f"no column {name!r} among the axes: score the measure `axes` first")
        common = indexed.index.intersection(groups.index)
        if (indexed.loc[common, name].notna() & groups.loc[common].notna().to_numpy()).any():
            found[name] = cross_table(indexed[name], groups, persons=persons, minimum=minimum, key=name)
    return found


def _joined(first: Any, second: Any, persons: Any) -> pd.DataFrame:
    given = {"first": first, "second": second, **({} if persons is None else {"person": persons})}
    if all(isinstance(one, pd.Series) for one in given.values()):
        for name, one in given.items():
            if one.index.has_duplicates:
                again = one.index[one.index.duplicated()][0]
                raise DataError(f"sample {str(again)!r} has two labels ({name}): ids must differ")
        both = first.index.intersection(second.index, sort=False)
        return pd.DataFrame({name: one.reindex(both).astype(object) for name, one in given.items()})
    lengths = {len(one) for one in given.values()}
    if len(lengths) > 1:
        raise SpecError(f"labels of {' and '.join(map(str, sorted(lengths)))} rows aren't of the same people")
    return pd.DataFrame({name: pd.Series(list(one), dtype=object) for name, one in given.items()})


def _tested(counts: np.ndarray, hidden: np.ndarray, key: str) -> dict[str, Any]:
    found = independence(counts, key)
    test, p = found.test, found.p_value
    two_by_two = counts.shape == (2, 2)
    if two_by_two and test == "permutation":
        test, p = "fisher", float(scipy.stats.fisher_exact(counts).pvalue)
    numbers = {"statistic": found.statistic, "df": found.df, "p_value": p, "cramer_v": found.cramer_v}
    if two_by_two and hidden.any():
        # Four counts of known totals have one number between them: any statistic gives it away.
        numbers = {name: value if name == "df" else np.nan for name, value in numbers.items()}
    return {"test": test, **numbers}


def _cells(
    counts: np.ndarray,
    hidden: np.ndarray,
    hidden_rows: np.ndarray,
    hidden_columns: np.ndarray,
    rows: list[str],
    columns: list[str],
) -> pd.DataFrame:
    of_rows, of_columns, total = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    told = []
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cell: dict[str, Any] = {"first": row, "second": column, "n": pd.NA, "hidden": bool(hidden[i, j])}
            if not hidden[i, j]:
                n = int(counts[i, j])
                cell["n"] = n
                if not hidden_rows[i]:
                    cell["share_of_first"] = n / of_rows[i]
                if not hidden_columns[j]:
                    cell["share_of_second"] = n / of_columns[j]
                if not (hidden_rows[i] or hidden_columns[j]) and min(counts.shape) > 1:
                    rest = total - of_rows[i] - of_columns[j] + n
                    cell |= _odds(np.array([[n, of_rows[i] - n], [of_columns[j] - n, rest]]))
            told.append(cell)
    floats = ("share_of_first", "share_of_second", "odds_ratio", "odds_low", "odds_high", "p_value")
    names = ["first", "second", "n", *floats, "hidden"]
    table = pd.DataFrame(told, columns=names).astype({"n": "Int64", **dict.fromkeys(floats, "float64")})
    table.insert(len(names) - 1, "q_value", benjamini_hochberg(table["p_value"].to_numpy()))
    return table


def _odds(two: np.ndarray) -> dict[str, float]:
    """Sample odds ratio with Woolf's interval, and Fisher's p."""
    found: dict[str, float] = {"p_value": float(scipy.stats.fisher_exact(two).pvalue)}
    if (two.sum(axis=0) == 0).any() or (two.sum(axis=1) == 0).any():
        return found
    if (two > 0).all():
        ratio = scipy.stats.contingency.odds_ratio(two, kind="sample")
        interval = ratio.confidence_interval(0.95)
        return found | {
            "odds_ratio": float(ratio.statistic),
            "odds_low": float(interval.low),
            "odds_high": float(interval.high),
        }
    return found | {"odds_ratio": 0.0 if two[0, 0] == 0 or two[1, 1] == 0 else np.inf}
