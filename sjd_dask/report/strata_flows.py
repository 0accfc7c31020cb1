"""The part of a grouping's page on what tells groups apart, and on how samples move between k and between visits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sjd_dask.report.format import count, natural_key, number
from sjd_dask.report.page import Picture, picture_uri

# Rows of the map of features: as many as the groups share.
MOST_PROFILED = 24
MOST_VISITS = 6
OVERALL = ("feature_id", "mean", "standard_deviation")


def profile_pictures(
    tables: Mapping[str, pd.DataFrame], colors: Mapping[str, str], symbols: Mapping[str, str] | None = None
) -> list[Picture]:
    """Features, and modules where an explanation scored them, by groups.

    Parameters
    ----------
    tables : mapping of DataFrame
        ``centroids`` of the result; ``modules`` of its explanation.
    colors : mapping
        Of the groups.
    symbols : mapping, optional
        Names of features to show in place of their ids.
    """
    from sjd_dask.report import flow_figures as figures

    pictures = []
    centroids = tables.get("centroids")
    if centroids is not None and len(colors) > 1:
        square = telling_features(centroids, list(colors))
        square.index = pd.Index([(symbols or {}).get(one) or one for one in square.index])
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.profile_map(square, colors, "standard deviations from the mean")),
                f"Mean of {len(square)} features in {square.shape[1]} groups.",
                f"The features that tell each group most from the others ({len(square)} of {count(len(centroids))}): "
                "mean of the group, in standard deviations from the mean of all samples.",
            )
        )
    modules = tables.get("modules")
    if modules is not None and len(modules):
        square = modules_by_group(modules)
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.profile_map(square, colors, "mean score")),
                f"Mean score of {len(square)} modules in {square.shape[1]} groups.",
                "Mean module score of each group, as the explanation of these groups gives it: in standard deviations "
                "of the healthy, 0 for their mean.",
            )
        )
    return pictures


def telling_features(centroids: pd.DataFrame, groups: list[str]) -> pd.DataFrame:
    """Mean z of the features that tell the groups apart, features x groups.

    Each group in turn gives those whose mean lies farthest from the nearest mean of another group, highest first, so
    that a map of them shows every group, also a small or a middling one.
    """
    table = centroids.set_index("feature_id")
    table = table[table["standard_deviation"] > 0]
    z = pd.DataFrame(
        {one: (table[f"mean_{one}"] - table["mean"]) / table["standard_deviation"] for one in groups}, index=table.index
    )
    each = max(3, MOST_PROFILED // len(groups))
    taken: list[str] = []
    for name in groups:
        others = z.drop(columns=name)
        above, below = z[name] - others.max(axis=1), others.min(axis=1) - z[name]
        margin = above.where(above > below, below).drop(taken)
        best = margin.sort_values(ascending=False, kind="stable").index[:each]
        taken += list(z.loc[best, name].sort_values(ascending=False, kind="stable").index)
    return z.loc[taken]


def modules_by_group(modules: pd.DataFrame) -> pd.DataFrame:
    """Mean scores, modules x groups; a module of several assays is named with its assay."""
    own = modules.drop_duplicates(["assay", "module", "group"])
    several = own.groupby("module")["assay"].nunique().max() > 1
    name = own["module"] + " (" + own["assay"] + ")" if several else own["module"]
    square = own.assign(row=name).pivot(index="row", columns="group", values="mean")
    return square.loc[list(dict.fromkeys(name)), sorted(square.columns, key=natural_key)]


def flow_between_k(
    tables: Mapping[str, pd.DataFrame], colors: Mapping[str, str], k: int, strata: pd.Series
) -> Picture | None:
    """How the groups of each k come out of those of the one before."""
    from sjd_dask.report import flow_figures as figures

    labels = tables.get("labels")
    if labels is None or len(labels.columns) < 3:
        return None
    labels = labels.set_index("sample_id")
    columns = list(labels.columns)
    chosen = [i for i, name in enumerate(columns) if name == f"k{k}"]
    return Picture(
        "wide",
        picture_uri(
            figures.alluvial(
                labels, strata.reindex(labels.index), colors, unit="samples", named=chosen,
                titles=[f"k = {one.removeprefix('k')}" for one in columns],
            )
        ),
        f"How {len(labels):,} samples move between groups from {columns[0]} to {columns[-1]}.",
        "Samples by group at each k; bands have the colour of the group at the chosen k. Groups that split cleanly are "
        "nested; bands that cross are samples whose group depends on how many are asked for.",
    )  # fmt: skip


def flow_between_visits(tables: Mapping[str, pd.DataFrame], colors: Mapping[str, str]) -> dict[str, Any] | None:
    """How persons move between groups from visit to visit: a picture, and a sentence for each pair of visits."""
    from sjd_dask.report import flow_figures as figures

    visits = tables.get("visits")
    if visits is None or visits.empty:
        return None
    table = visits.drop_duplicates(["person", "visit"]).pivot(index="person", columns="visit", values="stratum")
    columns = sorted(table.columns, key=natural_key)
    more = len(columns) > MOST_VISITS
    if more:
        most = table.notna().sum().sort_values(ascending=False, kind="stable").index[:MOST_VISITS]
        columns = [one for one in columns if one in set(most)]
    table = table[columns]
    if len(columns) < 2:
        return None
    words = []
    for first, second in itertools.pairwise(columns):
        both = table[[first, second]].dropna()
        if len(both):
            same = int((both[first] == both[second]).sum())
            words.append(
                f"From visit {first} to {second}: {same:,} of {len(both):,} persons seen at both stay in their group "
                f"({number(100 * same / len(both), 3)} %)."
            )
    part = f" The {MOST_VISITS} visits with most persons are shown." if more else ""
    return {
        "words": words,
        "picture": Picture(
            "wide",
            picture_uri(
                figures.alluvial(
                    table, None, colors, titles=[f"visit {one}" for one in columns], named=range(len(columns)),
                    unit="persons",
                )
            ),
            f"How {len(table):,} persons move between groups over {len(columns)} visits.",
            f"Persons with several visits, by group; a band links two visits that follow each other here.{part}",
        ),
    }  # fmt: skip
