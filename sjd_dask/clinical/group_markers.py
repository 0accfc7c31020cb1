"""Markers by group: what interferon, B and T cells, and any other number are in clusters or classes, with tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.few_people import hide_small
from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.multiplicity import benjamini_hochberg
from sjd_dask.kernels.rank import kruskal, wilcoxon


@dataclass(frozen=True)
class GroupMarkers:
    """Markers compared between groups.

    Attributes
    ----------
    tests : DataFrame
        ``marker``, ``n``, ``n_groups``, ``statistic`` (Kruskal-Wallis H), ``df``, ``p_value``, ``q_value``
        (Benjamini-Hochberg over the markers), ``epsilon2`` (H / (n - 1): share of the variance of ranks).
    groups : DataFrame
        ``marker``, ``group``, ``n``, ``mean``, ``q1``, ``median``, ``q3``, and the group against all others:
        ``probability_above`` (that a value of the group exceeds one of another, ties half), ``p_value`` (Wilcoxon),
        ``q_value`` (over all markers and groups). Missing where fewer than the minimum have a value, or are the others;
        ``n`` and the tests also where they would give such a number away.
    """

    tests: pd.DataFrame
    groups: pd.DataFrame


def group_markers(
    groups: pd.Series,
    markers: pd.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    persons: pd.Series | None = None,
    minimum: int = 5,
    untold: Iterable[str] = (),
) -> GroupMarkers:
    """Compare markers between groups.

    Parameters
    ----------
    groups : Series
        Group of each sample (a cluster, or a molecular class); index sample ids. Samples without one are left out.
    markers : DataFrame
        Numbers and flags, index sample ids; joined to the groups by id. Missing values are left out, marker by marker.
    columns : sequence of str, optional
        Markers to compare; default: every column of numbers.
    persons : Series, optional
        Person by sample id; a person with two samples is refused, since they would count as two people.
    minimum : int
        Numbers of groups of fewer people are hidden, and the sum that would give them away; of another group its size
        and its tests too, since that sum may be known from elsewhere.
    untold : iterable of str
        Groups whose size is hidden in any case, since it is in what is shown beside.

    Raises
    ------
    SpecError
        A column that isn't there or holds no numbers.
    DataError
        Ids that repeat, no sample in both, one group only, or a person with several samples.

    Notes
    -----
    Ranks, since markers have long tails: Kruskal-Wallis over all groups, Wilcoxon's rank sum of each group against the
    others; as R's kruskal.test and wilcox.test.
    """
    for what, index in (("groups", groups.index), ("markers", markers.index)):
        if index.has_duplicates:
            again = index[index.duplicated()][0]
            raise DataError(f"sample {str(again)!r} comes twice among the {what}: ids must differ")
    chosen = _columns(markers, columns)
    labels = groups.dropna().astype(str)
    common = labels.index[labels.index.isin(markers.index)]
    if not len(common):
        raise DataError(f"none of the {len(labels):,} samples with a group is among the {len(markers):,} with markers")
    if persons is not None:
        twice = persons.reindex(common).dropna().duplicated()
        if twice.any():
            name = persons.reindex(common).dropna()[twice].iloc[0]
            raise DataError(
                f"person {str(name)!r} has several samples ({int(twice.sum()):,} too many in all), which would count "
                "as several people; keep one visit a person, such as the baseline"
            )
    labels = labels.loc[common]
    names = sorted(labels.unique(), key=lambda one: (len(one), one))
    codes = pd.Categorical(labels, categories=names).codes.astype(np.int64)
    values = np.array(markers.loc[common, chosen].to_numpy(dtype=np.float64, na_value=np.nan), order="C")
    values[~np.isfinite(values)] = np.nan
    known = np.isfinite(values)
    counts = np.array([known[codes == g].sum(axis=0) for g in range(len(names))])
    few = (counts > 0) & (counts < minimum)
    also = np.zeros((2, len(names) + 1), dtype=bool)
    also[:, :-1] = np.isin(names, list(untold))
    veiled = np.column_stack([hide_small(one[None, :], minimum, also=also)[0, :-1] for one in counts.T])
    if len(names) < 2:
        raise DataError(f"all {len(common):,} samples are in the group {names[0]!r}: there is nothing to compare")
    overall = kruskal(values, codes, len(names))
    tests = pd.DataFrame(
        {
            "marker": chosen,
            "n": pd.array(overall.n_samples, dtype="Int64"),
            "n_groups": (counts > 0).sum(axis=0),
            "statistic": overall.statistic,
            "df": overall.df_numerator,
            "p_value": overall.p_value,
            "q_value": benjamini_hochberg(overall.p_value),
            "epsilon2": overall.statistic / np.maximum(overall.n_samples - 1, 1),
        }
    )
    tests.loc[few.any(axis=0), "n"] = pd.NA
    rows: list[dict[str, Any]] = []
    for g, name in enumerate(names):
        apart = wilcoxon(values, (codes == g).astype(np.int64))
        for j, marker in enumerate(chosen):
            own = values[(codes == g) & known[:, j], j]
            row: dict[str, Any] = {"marker": marker, "group": name, "n": pd.NA if veiled[g, j] else len(own)}
            if len(own) and not few[g, j]:
                q1, median, q3 = np.quantile(own, [0.25, 0.5, 0.75])
                row |= {"mean": own.mean(), "q1": q1, "median": median, "q3": q3}
                others = int(counts[:, j].sum()) - len(own)
                # Chances and their tests are fractions of the sizes: they would tell a hidden one.
                if others >= minimum and not veiled[g, j]:
                    row |= {"probability_above": apart.effect[j], "p_value": apart.p_value[j]}
            rows.append(row)
    floats = ("mean", "q1", "median", "q3", "probability_above", "p_value")
    table = pd.DataFrame(rows, columns=["marker", "group", "n", *floats])
    table = table.astype({"n": "Int64", **dict.fromkeys(floats, "float64")})
    table["q_value"] = benjamini_hochberg(table["p_value"].to_numpy())
    place = {marker: j for j, marker in enumerate(chosen)}
    table = table.sort_values("marker", key=lambda one: one.map(place), kind="stable", ignore_index=True)
    return GroupMarkers(tests, table)


def marker_sets(definitions: Overrides | None = None) -> dict[str, tuple[str, ...]]:
    """Genes that mark B cells, plasma cells and T cells, as sets for `fit_modules`.

    References
    ----------
    .. [1] Usual surface markers of lymphocytes (mark K), in the definition ``modules``.
    """
    entries = load_definition("modules", definitions)["cell_markers"]
    return {name: tuple(map(str, entry["genes"])) for name, entry in entries.items()}


def _columns(markers: pd.DataFrame, columns: Sequence[str] | None) -> list[str]:
    def numeric(name: str) -> bool:
        return bool(pd.api.types.is_numeric_dtype(markers[name]) or pd.api.types.is_bool_dtype(markers[name]))

    if columns is None:
        chosen = [str(name) for name in markers.columns if numeric(name)]
        if not chosen:
            raise SpecError("no column of the markers holds numbers")
        return chosen
    for name in columns:
        if name not in markers:
            raise SpecError(f"no marker {name!r}; there are {', '.join(map(str, markers.columns[:20]))}")
        if not numeric(name):
            raise SpecError(f"marker {name!r} holds {markers[name].dtype}, not numbers: compare it by `cross_table`")
    return list(columns)
