"""Whether persons keep their cluster from visit to visit, and whether a low probability tells who will not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.cross_tables import CrossTable, cross_table
from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.visits import baselines
from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.rank import wilcoxon

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stability:
    """What became of clusters from one visit to the next.

    Attributes
    ----------
    summary : dict
        ``persons`` (with two visits at least), ``pairs`` (of visits that follow one another), ``undetermined`` (of
        these, pairs in which a group is not determined: left out of all else), ``kept`` (share of persons who keep
        their group from their first to their second visit) with its 95 % interval (Wilson) ``kept_low``, ``kept_high``,
        ``kept_pairs`` (share of all pairs), ``chance`` (share that would be kept if second groups were dealt anew),
        ``auc`` (chance that the probability at the first visit of one who keeps the group is above that of one who
        doesn't) with its ``auc_p_value`` (Wilcoxon); missing where all do, or none;
        and of `nsst` the range of shares that was ``published_low`` to ``published_high``.
    transitions : CrossTable
        Group at the first visit by group at the second, one row a person.
    by_probability : DataFrame
        ``probability_from``, ``probability_to``, ``persons``, ``kept`` by the probability at the first visit; missing
        where few persons are.
    """

    summary: dict[str, Any]
    transitions: CrossTable
    by_probability: pd.DataFrame


def cluster_stability(
    table: pd.DataFrame, measure: str = "nsst", *, minimum: int = 5, definitions: Overrides | None = None
) -> Stability:
    """How stable clusters are over the visits of persons.

    Parameters
    ----------
    table : DataFrame
        Of `score` with a measure of groups: ``sample_id``, ``person_id``, ``visit`` or ``date``, the group under the
        measure's name and ``<measure>_probability``.
    measure : str
    minimum : int
        Numbers of fewer people are hidden.
    definitions
        ``nsst`` counts (bands of the probability).

    Raises
    ------
    SpecError
        A column is absent.
    DataError
        Nobody has two visits with determined groups, or the order of a person's visits is not clear.

    References
    ----------
    .. [1] Tarn et al. 2019, Lancet Rheumatology: 57-60 % keep their subtype between visits, and a low baseline
       probability best predicts a switch (mark P).
    """
    probability = f"{measure}_probability"
    for name in (names.PERSON_ID, measure, probability):
        if name not in table:
            raise SpecError(f"stability needs the column {name!r}: score {measure} for a sheet with persons and visits")
    frame = table.reset_index(drop=names.SAMPLE_ID in table)
    order = visit_numbers(frame)
    first, second = _pairs(frame, order)
    persons = int((order[first] == 0).sum())
    group = frame[measure].to_numpy(dtype=object)
    determined = pd.notna(group[first]) & pd.notna(group[second])
    n_pairs = len(first)
    first, second = first[determined], second[determined]
    opening = order[first] == 0
    if not opening.any():
        raise DataError(
            f"of {persons:,} persons with two visits none has a determined {measure} at the first two: there is "
            "nothing to compare"
        )
    kept = group[first] == group[second]
    at, after, stays = first[opening], second[opening], kept[opening]
    ids = frame[names.PERSON_ID].to_numpy(dtype=object)[at]
    crossed = cross_table(
        pd.Series(group[at], index=ids), pd.Series(group[after], index=ids), minimum=minimum, key=measure
    )
    shares = [pd.Series(group[rows]).value_counts(normalize=True) for rows in (at, after)]
    interval = scipy.stats.binomtest(int(stays.sum()), len(stays)).proportion_ci(method="wilson")
    p = frame[probability].to_numpy(dtype=np.float64)[at]
    told = np.isfinite(p)
    auc, auc_p = np.nan, np.nan
    if len(np.unique(stays[told])) == 2:
        test = wilcoxon(p[told, None], stays[told].astype(np.int64))
        auc, auc_p = float(test.effect[0]), float(test.p_value[0])
    summary = {
        "persons": persons,
        "pairs": n_pairs,
        "undetermined": n_pairs - len(first),
        "kept": float(stays.mean()),
        "kept_low": float(interval.low),
        "kept_high": float(interval.high),
        "kept_pairs": float(kept.mean()),
        "chance": float((shares[0] * shares[1]).sum()),
        "auc": auc,
        "auc_p_value": auc_p,
    }
    rules = {key: entry["value"] for key, entry in load_definition("nsst", definitions)["stability"].items()}
    if measure == "nsst":
        summary |= {"published_low": float(rules["published_low"]), "published_high": float(rules["published_high"])}
    bands = rules["probability_bands"]
    return Stability(summary, crossed, _by_band(p, stays, [0.0, *map(float, bands), 1.0], minimum))


def told_stability(measure: str) -> Callable[[pd.DataFrame], dict[str, dict[str, Any]]]:
    """What `sjd score` says of a measure's stability: nothing where nobody has a second visit."""

    def told(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
        if names.PERSON_ID not in table or not table[names.PERSON_ID].dropna().duplicated().any():
            return {}
        try:
            found = cluster_stability(table, measure).summary
        except DataError as error:
            return {"stability": {"not told": str(error)}}
        return {"stability": {name: None if pd.isna(value) else value for name, value in found.items()}}

    return told


def visit_numbers(frame: pd.DataFrame) -> Ints:
    """Which visit of its person a row is, from 0, (n,).

    Raises
    ------
    DataError
        The order of a person's visits is not clear.
    """
    number = np.full(len(frame), -1, dtype=np.int64)
    left = np.arange(len(frame))
    while len(left):
        earliest = baselines(frame.iloc[left]).is_baseline
        number[left[earliest]] = number.max(initial=-1) + 1
        left = left[~earliest]
    return number


def _pairs(frame: pd.DataFrame, order: Ints) -> tuple[Ints, Ints]:
    """Rows of visits that follow one another."""
    known = np.flatnonzero(frame[names.PERSON_ID].notna().to_numpy())
    codes = pd.factorize(frame[names.PERSON_ID].to_numpy()[known])[0]
    rows = known[np.lexsort((order[known], codes))]
    persons = codes[np.lexsort((order[known], codes))]
    same = np.flatnonzero(persons[1:] == persons[:-1])
    return rows[same], rows[same + 1]


def _by_band(p: NDArray[np.float64], stays: NDArray[np.bool_], cuts: list[float], minimum: int) -> pd.DataFrame:
    rows = []
    for low, high in itertools.pairwise(cuts):
        own = (p >= low) & ((p < high) | ((high == 1.0) & (p <= high)))
        n = int(own.sum())
        hidden = 0 < n < minimum
        rows.append(
            {
                "probability_from": low,
                "probability_to": high,
                "persons": pd.NA if hidden else n,
                "kept": np.nan if hidden or not n else float(stays[own].mean()),
            }
        )
    return pd.DataFrame(rows).astype({"persons": "Int64"})
