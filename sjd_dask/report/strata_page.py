"""The page of a grouping: which groups, why so many, how sure, and with what they agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.report import facts
from sjd_dask.report.assays_section import assays_section
from sjd_dask.report.format import count, natural_key, number, shorten, spec_text
from sjd_dask.report.layer_facts import Rows, agreement_rows
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri
from sjd_dask.report.strata_flows import flow_between_k, flow_between_visits, profile_pictures

MOST_FEATURES = 25
MOST_AMBIGUOUS = 50
# The consensus over all algorithms, in the tables.
COMBINED = "combined"


def render_strata(
    meta: Mapping[str, Any], tables: Mapping[str, pd.DataFrame], symbols: Mapping[str, str] | None = None
) -> str:
    """The page of one ``strata/NAME``.

    Parameters
    ----------
    meta : mapping
        The result's facts; every key is optional.
    tables : mapping of DataFrame
        ``table`` (one row a sample), and any of ``choice``, ``cdf``, ``labels``, ``features``, ``cross``,
        ``principal``, ``heat``, ``centroids``, ``visits``, and ``modules`` of an explanation of these groups; the part
        of an absent one is left out.
    symbols : mapping, optional
        Gene symbols of features.

    Returns
    -------
    str
        HTML that fetches nothing and runs nothing. User text is escaped.
    """
    table = tables["table"]
    reference = str(meta.get("reference") or "strata")
    name = reference.split("@")[0].split("/")[-1]
    return (
        environment()
        .get_template("strata.html.j2")
        .render(
            title=str(meta.get("title") or reference),
            reference=reference,
            export_name=name,
            cohort_path=str((meta.get("cohort") or {}).get("path") or "COHORT"),
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            warnings=[str(w) for w in meta.get("warnings") or []],
            k=int(meta.get("k") or table["stratum"].nunique()),
            reason=str(meta.get("reason") or ""),
            cards=_cards(meta, table),
            what=_what(meta),
            where=facts.on_what({**meta, "quantity": None}),
            samples_out=facts.left_out(meta.get("samples") or {}),
            features_out=facts.left_out(meta.get("features") or {}),
            groups=_groups(table),
            choice=_choice(tables.get("choice")),
            cross=agreement_rows(tables.get("cross"), "sample column"),
            assays_part=assays_section(tables),
            features=_features(tables.get("features")),
            ambiguous=_ambiguous(table),
            group_pictures=_group_pictures(table, tables, meta),
            profile_pictures=profile_pictures(tables, _colors(table), symbols),
            visits=flow_between_visits(tables, _colors(table)),
            choice_pictures=_choice_pictures(table, tables, meta),
            provenance=facts.provenance(meta),
            spec=spec_text(meta["spec"]) if meta.get("spec") else "",
        )
    )


def _colors(table: pd.DataFrame) -> dict[str, str]:
    from sjd_dask.report.strata_figures import strata_colors

    return strata_colors([str(one) for one in table["stratum"].unique()])


def _strata(table: pd.DataFrame) -> list[str]:
    return sorted(table["stratum"].dropna().unique(), key=natural_key)


def _cards(meta: Mapping[str, Any], table: pd.DataFrame) -> list[tuple[str, str, str]]:
    k = int(meta.get("k") or table["stratum"].nunique())
    chosen = "chosen by the criteria" if meta.get("chosen") == "auto" else "as the spec says"
    core, ambiguous = table["core"].to_numpy(dtype=bool), table["ambiguous"].to_numpy(dtype=bool)
    cards = [(count(k), "groups" if k != 1 else "group: the samples don't fall into groups", chosen)]
    cards.append((count(len(table)), "samples", ""))
    if k > 1:
        cards.append((count(int(core.sum())), "core samples", f"{number(100 * core.mean(), 3)} % of all"))
        cards.append(
            (count(int(ambiguous.sum())), "ambiguous samples", f"{number(100 * ambiguous.mean(), 3)} % of all")
        )
    features = meta.get("features") or {}
    if features.get("used") is not None:
        note = f"of {count(features['available'])}" if features.get("available") else ""
        cards.append((count(features["used"]), "features", note))
    return cards


def _what(meta: Mapping[str, Any]) -> facts.Pairs:
    recipe, features = meta.get("recipe") or {}, meta.get("features") or {}
    pairs: facts.Pairs = []
    if features.get("choice"):
        pairs.append(("Features", str(features["choice"])))
    if recipe:
        pairs.append(("Algorithms", ", ".join(map(str, recipe.get("algorithms") or []))))
        pairs.append(("Distance", f"{recipe.get('distance')} (k-means and mixture: Euclidean)"))
        pairs.append(("Linkage", str(recipe.get("linkage"))))
        low, high = recipe.get("k") or (1, 1)
        pairs.append(("Groups tried", f"{low} to {high}"))
        pairs.append(
            (
                "Resamples",
                f"{count(recipe.get('resamples'))} of {number(100 * recipe.get('sample_fraction', 1), 3)} % of samples "
                f"and {number(100 * recipe.get('feature_fraction', 1), 3)} % of features, seed {recipe.get('seed')}",
            )
        )
    consensus = meta.get("consensus") or {}
    if consensus.get("kind") == "landmarks":
        pairs.append(("Consensus", f"of {count(consensus.get('landmarks'))} landmarks; every sample placed among them"))
        check = consensus.get("check") or {}
        if check:
            pairs.append(
                (
                    "Agreement of the placing",
                    f"adjusted Rand index {number(check.get('ari'), 3)} with the groups that "
                    f"{count(check.get('samples'))} other samples make by themselves",
                )
            )
        other = consensus.get("kmeans") or {}
        if other:
            pairs.append(
                ("k-means of all samples", f"adjusted Rand index {number(other.get('ari'), 3)} with the groups")
            )
    if meta.get("explanation"):
        pairs.append(("Explained by", str(meta["explanation"])))
    if meta.get("previous"):
        by = {"persons": ", by persons", "centroids": ", by the mean profiles of the groups"}
        pairs.append(("Names kept from", str(meta["previous"]) + by.get(str(meta.get("matched_by")), "")))
    return pairs


def _groups(table: pd.DataFrame) -> Rows:
    titles = ("samples", "share, %", "core", "ambiguous", "mean consensus", "mean silhouette")
    rows = []
    for name in _strata(table):
        own = table[table["stratum"] == name]
        rows.append(
            [
                shorten(str(name), 40),
                count(len(own)),
                number(100 * len(own) / len(table), 3),
                count(int(own["core"].sum())),
                count(int(own["ambiguous"].sum())),
                number(own["consensus"].mean(), 3),
                number(own["silhouette"].mean(), 3),
            ]
        )
    return Rows([("group", False), *((title, True) for title in titles)], rows, len(rows))


def _choice(choice: pd.DataFrame | None) -> Rows | None:
    if choice is None or choice.empty:
        return None
    measures = ("area", "gain", "pac", "silhouette", "gap", "stability", "separation_z")
    shown = [one for one in measures if one in choice]
    rows = [
        [
            str(record["algorithm"]),
            count(record["k"]),
            *(number(record[one], 3) for one in shown),
            "chosen" if record.get("selected") else "",
        ]
        for record in choice.to_dict("records")
    ]
    titles = {
        "pac": "PAC",
        "area": "area under the CDF",
        "gain": "relative gain",
        "separation_z": "separation, SD of the null",
    }
    return Rows(
        [("algorithm", False), ("k", True), *((titles.get(one, one), True) for one in shown), ("", False)],
        rows,
        len(rows),
    )


def _features(features: pd.DataFrame | None) -> Rows | None:
    if features is None or features.empty or features["score"].isna().all():
        return None
    best = features.reindex(features["score"].abs().sort_values(ascending=False, kind="stable").index)
    rows = [
        [shorten(str(r["feature_id"]), 60), number(r["score"], 4)] for r in best.head(MOST_FEATURES).to_dict("records")
    ]
    return Rows([("feature", False), ("score", True)], rows, len(features))


def _ambiguous(table: pd.DataFrame) -> Rows:
    chosen = table[table["ambiguous"].to_numpy(dtype=bool)].sort_values("consensus", kind="stable")
    members = [one for one in table.columns if one.startswith("membership_")]
    rows = [
        [
            shorten(str(r["sample_id"]), 40),
            str(r["stratum"]),
            number(r["consensus"], 3),
            number(r["silhouette"], 3),
            *(number(r[one], 2) for one in members),
        ]
        for r in chosen.head(MOST_AMBIGUOUS).to_dict("records")
    ]
    titles = [("consensus", True), ("silhouette", True), *((one.removeprefix("membership_"), True) for one in members)]
    return Rows([("sample", False), ("group", False), *titles], rows, len(chosen))


def _group_pictures(table: pd.DataFrame, tables: Mapping[str, pd.DataFrame], meta: Mapping[str, Any]) -> list[Picture]:
    from sjd_dask.report import strata_figures as figures

    pictures: list[Picture] = []
    strata = table["stratum"].astype(str).to_numpy(dtype=object)
    colors, n = _colors(table), len(table)
    landmarks = (meta.get("consensus") or {}).get("landmarks")
    heat = tables.get("heat")
    if heat is not None and len(heat) > 1:
        matrix = heat[[name for name in heat.columns if name.startswith("with_")]].to_numpy(dtype=np.float32)
        whole = min(int(landmarks or n), n)
        kind = "landmarks" if landmarks else "samples"
        part = f" {len(heat):,} of {whole:,} {kind} are drawn, evenly spaced." if len(heat) < whole else ""
        of = int(meta.get("heat_k") or len(colors))
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.consensus_map(matrix, heat["stratum"].astype(str).tolist(), colors)),
                f"Consensus of {len(heat):,} samples in {len(colors)} groups.",
                f"How often two samples fell together over resamples and algorithms, at {of} groups: clean blocks are "
                f"groups, a haze between them is a continuum.{part}",
            )
        )
    principal = tables.get("principal")
    if principal is not None and "component_2" in principal and principal["component_2"].notna().any():
        shown = principal.merge(table[["sample_id", "stratum", "core"]], on="sample_id")
        part = ""
        if n > figures.MOST_POINTS:
            part = (
                f" {figures.MOST_POINTS:,} of {n:,} samples are drawn; each line holds {100 * figures.OUTLINED:.0f} % "
                "of all samples of its group."
            )
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.embedding(shown, colors, list(meta.get("explained") or []))),
                f"First two principal components of {n:,} samples, by group.",
                f"First two principal components of the chosen features; filled dots are core samples.{part}",
            )
        )
    values = table["silhouette"].to_numpy(dtype=float)
    if len(colors) > 1 and np.isfinite(values).any():
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.silhouettes(strata, values, colors)),
                f"Silhouettes of {n:,} samples by group.",
                f"Silhouette of every sample{' against the landmarks' if landmarks else ''}: below 0 it lies nearer to "
                "another group than to its own.",
            )
        )
        core = table["core"].to_numpy(dtype=bool)
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.sizes(strata, core, colors)),
                f"Sizes of the {len(colors)} groups, {int(core.sum()):,} samples core.",
                "Samples of each group. Core samples are those on which algorithms and resamples agree.",
            )
        )
    return pictures


def _choice_pictures(table: pd.DataFrame, tables: Mapping[str, pd.DataFrame], meta: Mapping[str, Any]) -> list[Picture]:
    from sjd_dask.report import strata_figures as figures

    pictures: list[Picture] = []
    k = int(meta.get("k") or 1)
    choice, curves = tables.get("choice"), tables.get("cdf")
    if choice is not None and len(choice):
        pictures.append(
            Picture(
                "wide",
                picture_uri(figures.criteria(choice, k)),
                f"Criteria of the number of groups; chosen is {k}.",
                "What speaks for each number of groups, by algorithm and for the consensus over all of them. The "
                "chosen one is shaded.",
            )
        )
    flow = flow_between_k(tables, _colors(table), k, table.set_index("sample_id")["stratum"])
    if flow is not None:
        pictures.append(flow)
    if curves is not None and len(curves):
        names = list(dict.fromkeys(curves["algorithm"]))
        of = " of landmarks" if (meta.get("consensus") or {}).get("kind") == "landmarks" else ""
        name = COMBINED if COMBINED in names else names[-1]
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.cumulative(curves[curves["algorithm"] == name], k)),
                "Cumulative distribution of the consensus over pairs, for each k.",
                f"Consensus of pairs{of} ({name}): a curve that is flat over the shaded middle belongs to groups that "
                "resamples agree on.",
            )
        )
        best = None if choice is None else choice[choice["algorithm"] == name]
        if best is not None and len(best):
            pictures.append(
                Picture(
                    "half",
                    picture_uri(figures.ambiguity(best, k)),
                    "Area under the curve, its relative gain and the share of ambiguous pairs against k.",
                    "Area under the curve, what each further group adds to it, and the share of ambiguous pairs.",
                )
            )
    return pictures
