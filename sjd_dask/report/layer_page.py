"""The page of a layer: what was done, how its samples look before and after, and which ones to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.report import facts, layer_facts
from sjd_dask.report.format import count, natural_key, number, spec_text
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri

# Factors with a picture of components each.
MOST_COLORED = 3
_SHOWN_AS = {"counts": "log₂(count + 1)", "concentration": "log₂(value + 1)", "beta": "beta", "m_value": "M-value"}


def render_layer(meta: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> str:
    """The page of one layer.

    Parameters
    ----------
    meta : mapping
        See :class:`sjd_dask.report.meta.LayerMeta`; every key is optional.
    tables : mapping of DataFrame
        Those of ``qc/NAME``: ``table`` (one row a sample), ``principal``, ``explained``, ``factors``. Each may be
        absent, and its part of the page is then left out.

    Returns
    -------
    str
        HTML that fetches nothing and runs nothing. User text is escaped.
    """
    samples = tables.get("table")
    table = None if samples is None or samples.empty else _ordered(samples)
    factors = tables.get("factors")
    reference = str(meta.get("reference") or "layer")
    name = str(meta.get("layer") or reference.split("@")[0].split("/")[-1])
    pictures = [] if table is None else _sample_pictures(table, meta)
    explained = _explained_pictures(meta, tables, table)
    return (
        environment()
        .get_template("layer.html.j2")
        .render(
            title=str(meta.get("title") or reference),
            reference=reference,
            export_name=name,
            quality_reference=str(meta.get("qc") or f"qc/{name}"),
            cohort_path=str((meta.get("cohort") or {}).get("path") or "COHORT"),
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            warnings=[str(w) for w in meta.get("warnings") or []],
            cards=_cards(meta, table, factors),
            steps=layer_facts.steps(meta),
            what=layer_facts.what_was_done(meta),
            where=layer_facts.on_what(meta),
            samples_out=facts.left_out(meta.get("samples") or {}),
            features_out=facts.left_out(meta.get("features") or {}),
            distribution=[p for p in pictures if p.kind == "wide"],
            measures=[p for p in pictures if p.kind != "wide"],
            explained=explained,
            flagged=None if table is None else layer_facts.flagged(table),
            pending=None if table is None else layer_facts.pending(table),
            has_pending_batch=table is not None and bool((table["status"] == "pending_batch").any()),
            batches=None if table is None else layer_facts.batches(table),
            provenance=facts.provenance(meta),
            spec=spec_text(meta["spec"]) if meta.get("spec") else "",
        )
    )


def _ordered(samples: pd.DataFrame) -> pd.DataFrame:
    """Rows of a batch together, batches in natural order; `is_flagged` added."""
    table = samples.reset_index(drop=True)
    flags = table["n_flags"].to_numpy() > 0 if "n_flags" in table else np.zeros(len(table), dtype=bool)
    table = table.assign(is_flagged=flags)
    for name, empty in (("status", "ok"), ("in_reference", False)):
        if name not in table:
            table[name] = empty
    if "batch" not in table:
        return table
    levels = sorted(table["batch"].dropna().unique(), key=natural_key)
    rank = table["batch"].map({level: i for i, level in enumerate(levels)}).fillna(len(levels)).to_numpy()
    return table.iloc[np.argsort(rank, kind="stable")].reset_index(drop=True)


def _cards(
    meta: Mapping[str, Any], table: pd.DataFrame | None, factors: pd.DataFrame | None
) -> list[tuple[str, str, str]]:
    """Number, what it is, and a note."""
    cards: list[tuple[str, str, str]] = []
    if table is not None:
        held = int((table["status"] != "ok").sum())
        reference = int(table["in_reference"].sum())
        cards.append((count(len(table) - held), "samples normalised", f"{count(reference)} in the reference"))
        cards.append((count(int(table["is_flagged"].sum())), "samples flagged", _share(table["is_flagged"].mean())))
        if held:
            reasons = table.loc[table["status"] != "ok", "status"].value_counts()
            text = ", ".join(f"{str(name).replace('_', ' ')} {count(n)}" for name, n in reasons.items())
            cards.append((count(held), "samples pending", text))
    features = meta.get("features") or {}
    if features.get("after") is not None:
        note = f"of {count(features['before'])}" if features.get("before") not in (None, features["after"]) else ""
        cards.append((count(features["after"]), "features", note))
    if factors is not None and len(factors):
        first = str(meta.get("batch_column") or factors["factor"].iloc[0])
        rows = factors[factors["factor"] == first].set_index("stage")
        if {"before", "after"} <= set(rows.index):
            share, chance = rows["share"].to_dict(), float(rows["chance"].to_dict()["after"])
            before, after = float(share["before"]), float(share["after"])
            value = f"{number(100 * before, 2)} → {number(100 * after, 2)}\u00a0%"
            cards.append((value, f"variance explained by {first}", f"by chance {number(100 * chance, 2)} %"))
    return cards


def _share(value: float) -> str:
    return f"{number(100 * value, 2)} % of all"


def _sample_pictures(table: pd.DataFrame, meta: Mapping[str, Any]) -> list[Picture]:
    from sjd_dask.report import layer_figures as figures

    pictures: list[Picture] = []
    five = [f"{name}_{stage}" for stage in figures.STAGES for name in ("minimum", "q1", "median", "q3", "maximum")]
    if set(five) <= set(table.columns):
        labels = {
            stage: _SHOWN_AS.get(str(meta.get(f"scale_{stage}")), str(meta.get(f"scale_{stage}") or "value"))
            for stage in figures.STAGES
        }
        n = len(table)
        how = (
            "One bar a sample: its middle half, with a line to its smallest and largest value and a dot at its median"
            if n <= figures.FEW_SAMPLES
            else f"Typical samples along the layer (about {figures.BINS} bins): median, middle half, range of values"
        )
        order = ", batches side by side" if "batch" in table else ""
        pictures.append(
            Picture(
                "wide",
                picture_uri(figures.distributions(table, labels)),
                f"Distributions of {n:,} samples before and after.",
                f"{how}{order}; medians of flagged samples in red"
                + (f" (of {figures.MOST_DOTS} only)" if int(table["is_flagged"].sum()) > figures.MOST_DOTS else "")
                + ". Features on X and Y are left out where these are known. Pending samples have no values after.",
            )
        )
    distance = table.get("distance_to_reference", pd.Series(dtype=float)).to_numpy(dtype=float)
    if np.isfinite(distance).any():
        outside = _flag(table, "outlier_distance_to_reference")
        inside = table["in_reference"].to_numpy(dtype=bool)
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.distances(distance, outside, inside)),
                f"Histogram of distances to the reference profile; {int(outside.sum()):,} samples outside the fence.",
                "Root mean square of z-scores against the frozen reference profile: about 1 for a sample like those of "
                "the reference.",
            )
        )
    if "predicted_sex" in table and table["predicted_sex"].notna().any():
        x, y = (
            table[f"{a}_median"].to_numpy(dtype=float) if f"{a}_median" in table else np.full(len(table), np.nan)
            for a in ("x", "y")
        )
        mismatch = _flag(table, "sex_mismatch")
        told = table["predicted_sex"].astype(object).where(table["predicted_sex"].notna(), None).to_numpy(dtype=object)
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.sexes(x, y, told, mismatch)),
                f"Medians of features on the sex chromosomes; {int(mismatch.sum()):,} samples recorded otherwise.",
                "Sex as read from the sex chromosomes, by thresholds frozen on the reference.",
            )
        )
    return pictures


def _flag(table: pd.DataFrame, name: str) -> np.ndarray:
    return table[name].to_numpy(dtype=bool) if name in table else np.zeros(len(table), dtype=bool)


def _explained_pictures(
    meta: Mapping[str, Any], tables: Mapping[str, pd.DataFrame], table: pd.DataFrame | None
) -> list[Picture]:
    from sjd_dask.report import layer_figures as figures

    pictures: list[Picture] = []
    factors = tables.get("factors")
    drawable = factors is not None and factors["share"].notna().any()
    principal = tables.get("principal")
    if principal is not None and principal[["before_1", "after_1"]].notna().all(axis=1).any():
        shares: dict[tuple[str, int], float] = {}
        if tables.get("explained") is not None:
            shares = {
                (str(r["stage"]), int(r["component"])): float(r["share"])
                for r in tables["explained"].to_dict("records")
            }
        is_flagged = np.zeros(len(principal), dtype=bool)
        if table is not None:
            is_flagged = principal[names.SAMPLE_ID].isin(table.loc[table["is_flagged"], names.SAMPLE_ID]).to_numpy()
        shown = principal.assign(is_flagged=is_flagged)
        n_all = len(principal) if table is None else int((table["status"] == "ok").sum())
        n_drawn = min(len(principal), figures.MOST_POINTS)
        part = f" {n_drawn:,} of {n_all:,} samples are drawn, evenly spaced." if n_drawn < n_all else ""
        notes = (
            " A batch that stands apart before should not after; a disease that does should still. Outliers have no "
            "part in the components; those far outside stand at the edge."
        )
        for factor in _colored(meta, principal, factors):
            pictures.append(
                Picture(
                    "wide",
                    picture_uri(figures.components(shown, factor, shares)),
                    f"First two principal components of {len(principal):,} samples before and after, by {factor}.",
                    f"First two principal components before and after{f', by {factor}' if factor else ''}.{part}"
                    + ("" if pictures else notes),
                )
            )
    if drawable:
        assert factors is not None
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.shares(factors[factors["share"].notna()])),
                "Share of variance explained by each factor before and after.",
                "Mean over features of the share of variance that a factor explains alone (R²). The tick is what a "
                "factor without meaning would explain.",
            )
        )
    explained = tables.get("explained")
    if explained is not None and explained["share"].notna().any():
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.scree(explained)),
                "Share of variance of each principal component before and after.",
                "Share of the variance that each component holds.",
            )
        )
    return pictures


def _colored(meta: Mapping[str, Any], principal: pd.DataFrame, factors: pd.DataFrame | None) -> list[str]:
    """Factors to colour by: the chosen one, the batch, those of the run, then those that explain most after."""
    wanted = [meta.get("colour_by"), meta.get("batch_column"), *(meta.get("factors") or [])]
    if factors is not None and len(factors):
        after = factors[factors["stage"] == "after"].sort_values("share", ascending=False, kind="stable")
        wanted += after["factor"].tolist()
    there = [str(name) for name in dict.fromkeys(wanted) if name in principal.columns and principal[name].notna().any()]
    return there[:MOST_COLORED] or [""]
