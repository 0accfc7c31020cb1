"""Sample columns compared between groups: the test that a column needs, its effect, and the false discovery rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sjd_dask.kernels.contingency import independence
from sjd_dask.kernels.multiplicity import benjamini_hochberg

TEST_COLUMNS = ("column", "test", "n", "n_groups", "statistic", "df", "p_value", "q_value", "effect", "effect_name")
GROUP_COLUMNS = ("column", "level", "group", "n", "share", "mean", "sd", "q1", "median", "q3")


def first_of_person(samples: pd.DataFrame, person: str | None, visit: str | None) -> pd.DataFrame:
    """One sample of each person: the earliest visit, of equals the first by id. Without `person` all samples.

    Samples without a person are left out where `person` is given: nobody knows whose they are.
    """
    if person is None:
        return samples
    known = samples[samples[person].notna()]
    order = np.argsort(known.index.to_numpy().astype(str), kind="stable")
    known = known.iloc[order]
    if visit is not None:
        known = known.iloc[np.argsort(visit_order(known[visit]), kind="stable")]
    return known.loc[~known[person].duplicated()]


def visit_order(visits: pd.Series) -> NDArray[np.int64]:
    """Rank of each visit: numbers and dates by size, other text by itself; missing ones last."""
    numbers = pd.to_numeric(visits, errors="coerce")
    values: Any = numbers if numbers.notna().sum() == visits.notna().sum() else visits.astype(str).where(visits.notna())
    return np.asarray(pd.Series(values).rank(method="dense", na_option="bottom").to_numpy(), dtype=np.int64)


def clinical_tests(
    samples: pd.DataFrame,
    groups: pd.Series,
    columns: list[str],
    *,
    person: str | None = None,
    visit: str | None = None,
    seed: int = 1,
) -> pd.DataFrame:
    """Compare sample columns between groups.

    Parameters
    ----------
    samples : DataFrame
        Index sample ids.
    groups : Series
        Group of each sample; index sample ids.
    columns : list of str
    person, visit : str, optional
        With `person` one sample of each person is tested, the earliest that has a value: several samples of one person
        are not independent.
    seed : int
        Names the tables that are drawn.

    Returns
    -------
    DataFrame
        ``column``; ``test`` (kruskal, chi2, permutation, or why there is none); ``n`` samples tested; ``n_groups``;
        ``statistic``; ``df``; ``p_value``; ``q_value`` (Benjamini-Hochberg over the columns); ``effect``, with
        ``effect_name``: epsilon2 = H / (n - 1) of Kruskal and Wallis (share of the variance of ranks) or Cramer's V.

    Notes
    -----
    Missing rule: samples without a value in the column are left out of its test. Numbers are compared by ranks,
    everything else by a table of counts: chi-square where at least 80 % of the expected counts are 5 or more and none
    is below 1 (Cochran's rule), else by the share of 9,999 tables of the same margins whose chi-square is as large.
    """
    rows = []
    for name in columns:
        known = samples.loc[groups.index].assign(_group=groups)
        known = first_of_person(known[known[name].notna()], person, visit)
        rows.append({"column": name, **_test(known[name], known["_group"], f"{seed} {name}")})
    table = pd.DataFrame(rows, columns=[name for name in TEST_COLUMNS if name != "q_value"])
    table.insert(7, "q_value", benjamini_hochberg(table["p_value"].to_numpy(dtype=np.float64)))
    return table.astype({"n": np.int64, "n_groups": np.int64, **dict.fromkeys(("statistic", "df", "effect"), float)})


def _test(values: pd.Series, groups: pd.Series, key: str) -> dict[str, Any]:
    n, n_groups = len(values), groups.nunique()
    none = {"n": n, "n_groups": n_groups, "statistic": np.nan, "df": np.nan, "p_value": np.nan, "effect": np.nan}
    numeric = is_number(values)
    name = "epsilon2" if numeric else "cramer_v"
    if n_groups < 2 or values.nunique() < 2:
        return {**none, "test": "none: one group only" if n_groups < 2 else "none: one value only", "effect_name": name}
    if numeric:
        parts = [part.to_numpy(dtype=np.float64) for _, part in values.groupby(groups, sort=True)]
        h, p = stats.kruskal(*parts)
        found = {"test": "kruskal", "statistic": h, "df": n_groups - 1, "p_value": p, "effect": h / (n - 1)}
        return {**none, **found, "effect_name": name}
    counts = pd.crosstab(groups, values.astype(str)).to_numpy()
    found = independence(counts, key)
    table = {"statistic": found.statistic, "df": found.df, "p_value": found.p_value, "effect": found.cramer_v}
    return {**none, "test": found.test, **table, "effect_name": name}


def is_number(values: pd.Series) -> bool:
    """Whether a column holds numbers; true and false are levels."""
    return bool(pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values))


def group_summary(samples: pd.DataFrame, groups: pd.Series, columns: list[str]) -> pd.DataFrame:
    """What the groups have in each column: quartiles of numbers, shares of levels; over all their samples.

    Returns
    -------
    DataFrame
        ``column``, ``level`` (missing for numbers), ``group``, ``n`` (samples with a value), ``share`` of the level,
        ``mean``, ``sd``, ``q1``, ``median``, ``q3``.
    """
    rows: list[dict[str, Any]] = []
    names = sorted(groups.unique(), key=lambda one: (len(str(one)), str(one)))
    for name in columns:
        values = samples.loc[groups.index, name]
        numeric = is_number(values)
        levels = [None] if numeric else sorted(values.dropna().astype(str).unique())
        for group in names:
            own = values[groups == group].dropna()
            if numeric:
                low, middle, high = np.quantile(own, [0.25, 0.5, 0.75]) if len(own) else (np.nan,) * 3
                spread = {"mean": own.mean(), "sd": own.std(), "q1": low, "median": middle, "q3": high}
                rows.append({"column": name, "level": None, "group": group, "n": len(own), **spread})
            else:
                shares = own.astype(str).value_counts(normalize=True)
                rows += [
                    {"column": name, "level": one, "group": group, "n": len(own), "share": shares.get(one, 0.0)}
                    if len(own)
                    else {"column": name, "level": one, "group": group, "n": 0}
                    for one in levels
                ]
    table = pd.DataFrame(rows, columns=list(GROUP_COLUMNS))
    floats = dict.fromkeys(("share", "mean", "sd", "q1", "median", "q3"), float)
    return table.astype({"column": object, "level": object, "group": object, "n": np.int64, **floats})
