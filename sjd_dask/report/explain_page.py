"""The page of an explanation: what the groups are, what else would explain them, and how stable they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.report import facts
from sjd_dask.report.format import count, natural_key, number, shorten, spec_text
from sjd_dask.report.layer_facts import Rows, agreement_rows
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri

MOST_FEATURES = 15
MOST_TABLES = 24
MOST_BOXES = 4
# McFadden (1977) called 0.2 to 0.4 an excellent fit: a nuisance that fits so well is what the groups may be.
MUCH = 0.2
NUISANCES = {"composition": "the composition of cells", "batch": "the batch", "sex": "sex", "drugs": "drugs"}


def render_explanation(meta: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> str:
    """The page of one ``explanations/NAME``.

    Parameters
    ----------
    meta : mapping
        The result's facts; every key is optional.
    tables : mapping of DataFrame
        Any of the result's companion tables; the part of an absent one is left out.

    Returns
    -------
    str
        HTML that fetches nothing and runs nothing. User text is escaped.
    """
    reference = str(meta.get("reference") or "explanations")
    shares = tables.get("shares")
    return (
        environment()
        .get_template("explanation.html.j2")
        .render(
            title=str(meta.get("title") or reference),
            reference=reference,
            export_name=reference.split("@")[0].split("/")[-1],
            cohort_path=str((meta.get("cohort") or {}).get("path") or "COHORT"),
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            warnings=[*instead(shares), *(str(w) for w in meta.get("warnings") or [])],
            cards=_cards(meta),
            shares=_shares(shares),
            share_pictures=_share_pictures(shares),
            module_pictures=_module_pictures(tables),
            modules=_modules(tables.get("modules")),
            matched=_matched(tables.get("module_genes")),
            clinical=_clinical(tables.get("clinical"), tables.get("clinical_groups")),
            summary=_summary(tables.get("summary")),
            tops=_tops(tables.get("top")),
            stability=_stability(tables.get("stability")),
            visit_pictures=_visit_pictures(tables.get("visits")),
            agreement=agreement_rows(tables.get("agreement"), "labelling"),
            cross=_cross(tables.get("cross")),
            done=_done(meta),
            provenance=facts.provenance(meta),
            spec=spec_text(meta["spec"]) if meta.get("spec") else "",
        )
    )


def instead(shares: pd.DataFrame | None) -> list[str]:
    """What the groups may be instead of classes of a disease, in words."""
    if shares is None:
        return []
    found = []
    for row in shares.to_dict("records"):
        text = NUISANCES.get(str(row["what"]))
        if text and not row["beyond"] and row["share"] >= MUCH and row["share"] > row["chance_95"]:
            share, chance = number(100 * row["share"], 3), number(100 * max(0.0, row["chance_95"]), 2)
            found.append(
                f"{text[0].upper() + text[1:]} alone explains {share} % of the grouping (chance: at most {chance} %): "
                "before these groups are called classes of a disease, see what is left of them without it."
            )
    return found


def _cards(meta: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    sizes = meta.get("sizes") or {}
    cards = []
    if sizes:
        cards.append((count(len(sizes)), "groups", str(meta.get("strata") or "")))
        text = ", ".join(f"{name} {count(sizes[name])}" for name in sorted(sizes, key=natural_key))
        cards.append((count(sum(sizes.values())), "samples in them", text))
    if meta.get("n_healthy") is not None:
        cards.append((count(meta["n_healthy"]), "healthy samples", ""))
    if meta.get("assays"):
        cards.append((count(len(meta["assays"])), "assays", ", ".join(meta["assays"])))
    return cards


def _percent(value: Any, digits: int = 3) -> str:
    return number(None if pd.isna(value) else 100 * value, digits)


def _shares(table: pd.DataFrame | None) -> Rows | None:
    if table is None or table.empty:
        return None
    rows = [
        [
            shorten(str(r["what"]), 40),
            str(r["beyond"]) or "–",
            count(r["n_samples"]),
            count(r["n_persons"]),
            _percent(r["share"]),
            _percent(r["chance"]),
            _percent(r["chance_95"]),
            number(r["p_value"], 2),
            str(r["note"] or r["columns"]),
        ]
        for r in table.to_dict("records")
    ]
    titles = ("samples", "persons", "share, %", "chance, %", "95 % of chance, %", "p")
    return Rows([("what", False), ("beyond", False), *((one, True) for one in titles), ("why", False)], rows, len(rows))


def _share_pictures(table: pd.DataFrame | None) -> list[Picture]:
    from sjd_dask.report import explain_figures as figures

    if table is None or not table["share"].notna().any():
        return []
    return [
        Picture(
            "half",
            picture_uri(figures.shares(table)),
            "Share of the grouping that cells, sex, batch and drugs explain.",
            "How much of the grouping each would foretell for people it has not seen (multinomial regression, "
            "five folds of persons, 1 - deviance / deviance of the group sizes).",
        )
    ]


def _module_means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean score, modules x groups; the modules that differ most."""
    from sjd_dask.report.explain_figures import MOST_MODULES

    several = table["assay"].nunique() > 1
    name = table["module"] + (" · " + table["assay"] if several else "")
    means = (
        table.assign(name=name).drop_duplicates(["name", "group"]).pivot(index="name", columns="group", values="mean")
    )
    means = means[sorted(means.columns, key=natural_key)]
    reach = (means.max(axis=1) - means.min(axis=1)).sort_values(ascending=False, kind="stable")
    return means.loc[reach.index[:MOST_MODULES]]


def _module_pictures(tables: Mapping[str, pd.DataFrame]) -> list[Picture]:
    from sjd_dask.report import explain_figures as figures

    table, each = tables.get("modules"), tables.get("module_scores")
    if table is None or table.empty:
        return []
    means = _module_means(table)
    n_all = table.drop_duplicates(["assay", "module"]).shape[0]
    part = f" The {len(means)} of {n_all:,} modules that differ most between groups." if len(means) < n_all else ""
    pictures = [
        Picture(
            "half",
            picture_uri(figures.module_map(means)),
            f"Mean scores of {len(means)} modules in {means.shape[1]} groups.",
            f"Mean over genes of (value - mean of the healthy) / SD of the healthy; the healthy are at 0.{part}",
        )
    ]
    if each is not None and len(each):
        first = each[each["assay"] == each["assay"].iloc[0]]
        shown = [one for one in dict.fromkeys([*_built_in(first), *(one.split(" · ")[0] for one in means.index)])]
        shown = [one for one in shown if one in set(first["module"])][:MOST_BOXES]
        pictures.append(
            Picture(
                "wide",
                picture_uri(figures.score_boxes(first, shown)),
                f"Scores of {', '.join(shown)} by group.",
                "Scores of samples: median, quartiles, and the range of the middle 90 %.",
            )
        )
    return pictures


def _built_in(table: pd.DataFrame) -> list[str]:
    return [one for one in dict.fromkeys(table["module"]) if str(one).startswith("interferon")]


def _modules(table: pd.DataFrame | None) -> Rows | None:
    if table is None or table.empty:
        return None
    several = table["assay"].nunique() > 1
    rows = [
        [
            *([shorten(str(r["assay"]), 30)] if several else []),
            shorten(str(r["module"]), 40),
            str(r["group"]),
            str(r["against"]),
            count(r["n"]),
            number(r["mean"], 3),
            _percent(r["share_high"]),
            number(r["effect"], 3),
            number(r["standard_error"], 2),
            number(r["q_value"], 2),
            count(r["n_descriptive"]) if r.get("n_descriptive") else "",
        ]
        for r in table.to_dict("records")
    ]
    titles = ("samples", "mean", "high, %", "difference", "standard error", "q", "features that made the groups")
    first = [("assay", False)] if several else []
    return Rows(
        [*first, ("module", False), ("group", False), ("against", False), *((one, True) for one in titles)],
        rows,
        len(rows),
    )


def _matched(table: pd.DataFrame | None) -> Rows | None:
    if table is None or table.empty:
        return None
    rows = [
        [
            shorten(str(r["assay"]), 30),
            shorten(str(r["module"]), 40),
            f"{count(r['n_matched'])} of {count(r['n_genes'])}",
            count(r["n_features"]),
            shorten(str(r["missing"]), 200),
        ]
        for r in table.to_dict("records")
    ]
    titles = [("assay", False), ("module", False), ("genes found", True), ("features", True), ("why", False)]
    return Rows(titles, rows, len(rows))


def _clinical(table: pd.DataFrame | None, groups: pd.DataFrame | None) -> Rows | None:
    if table is None or table.empty:
        return None
    names: list[str] = []
    if groups is not None:
        names = sorted(groups["group"].unique(), key=lambda one: (one == "healthy", natural_key(one)))
    rows = [
        [
            shorten(str(r["column"]), 40),
            str(r["role"]),
            *(_level(groups, str(r["column"]), one) for one in names),
            str(r["test"]),
            count(r["n"]),
            number(r["effect"], 2),
            {"epsilon2": "ε²", "cramer_v": "Cramér's V"}.get(str(r["effect_name"]), ""),
            number(r["p_value"], 2),
            number(r["q_value"], 2),
        ]
        for r in table.sort_values("p_value", kind="stable").to_dict("records")
    ]
    middle = [(one, False) for one in names]
    last = [("test", False), ("tested", True), ("effect", True), ("", False), ("p", True), ("q", True)]
    return Rows([("column", False), ("role", False), *middle, *last], rows, len(rows))


def _level(groups: pd.DataFrame | None, column: str, group: str) -> str:
    """Median and quartiles, or the shares of at most three levels."""
    assert groups is not None
    own = groups[(groups["column"] == column) & (groups["group"] == group)]
    if own.empty or not own["n"].iloc[0]:
        return "–"
    if own["level"].isna().all():
        r = own.iloc[0]
        return f"{number(r['median'], 3)} ({number(r['q1'], 3)} to {number(r['q3'], 3)})"
    own = own.sort_values("share", ascending=False, kind="stable")
    if set(own["level"]) == {"yes", "no"}:
        return f"{number(100 * float(own.loc[own['level'] == 'yes', 'share'].iloc[0]), 2)} %"
    text = ", ".join(
        f"{shorten(str(r['level']), 16)} {number(100 * r['share'], 2)} %" for _, r in own.head(3).iterrows()
    )
    return text + (", …" if len(own) > 3 else "")


def _summary(table: pd.DataFrame | None) -> Rows | None:
    if table is None or table.empty:
        return None
    rows = [
        [
            shorten(str(r["assay"]), 30),
            str(r["group"]),
            str(r["against"]),
            count(r["n_tested"]),
            count(r["n_up"]),
            count(r["n_down"]),
            count(r["n_found_not_descriptive"]),
            count(r["n_descriptive"]),
        ]
        for r in table.to_dict("records")
    ]
    titles = ("features", "up, q < 0.05", "down, q < 0.05", "of these not used for the groups", "used for the groups")
    return Rows(
        [("assay", False), ("group", False), ("against", False), *((one, True) for one in titles)], rows, len(rows)
    )


def _tops(table: pd.DataFrame | None) -> list[tuple[str, Rows]]:
    if table is None or table.empty:
        return []
    found = []
    for (assay, group, against), own in table.groupby(["assay", "group", "against"], sort=False):
        genes = bool(own["gene_symbol"].notna().any())
        rows = [
            [
                shorten(str(r["feature_id"]), 40),
                *([shorten("" if pd.isna(r["gene_symbol"]) else str(r["gene_symbol"]), 20)] if genes else []),
                number(r["effect"], 3),
                number(r["standard_error"], 2),
                number(r["statistic"], 3),
                number(r["p_value"], 2),
                number(r["q_value"], 2),
                "descriptive" if r["descriptive"] else "",
            ]
            for r in own.head(MOST_FEATURES).to_dict("records")
        ]
        gene = [("gene", False)] if genes else []
        titles = [(one, True) for one in ("difference", "standard error", "t", "p", "q")]
        against_text = "the healthy" if against == "healthy" else "all other groups"
        found.append(
            (
                f"{group} against {against_text}, {assay}",
                Rows([("feature", False), *gene, *titles, ("", False)], rows, 0),
            )
        )
    return found[:MOST_TABLES]


def _stability(table: pd.DataFrame | None) -> Rows | None:
    if table is None or table.empty:
        return None
    rows = [
        [
            str(r["what"]),
            count(r["n_units"]),
            count(r["n_pairs"]),
            _percent(r["agreement"]),
            _percent(r["chance"]),
            number(r["kappa"], 2),
            number(r["p_value"], 2),
            _percent(r["chance_within_kind"]),
            number(r["p_value_within_kind"], 2),
        ]
        for r in table.to_dict("records")
    ]
    titles = ("units", "pairs", "in one group, %", "chance, %", "kappa", "p", "chance within kind, %", "p within kind")
    return Rows([("pairs of", False), *((one, True) for one in titles)], rows, len(rows))


def _visit_pictures(table: pd.DataFrame | None) -> list[Picture]:
    from sjd_dask.report import explain_figures as figures

    if table is None or table.empty:
        return []
    return [
        Picture(
            "half",
            picture_uri(figures.moves(table)),
            f"Moves between groups over {int(table['n'].sum()):,} pairs of visits.",
            f"From one visit of a person to the next, {int(table['n'].sum()):,} times: share of those that come from "
            "the group at the left; in brackets what chance gives.",
        )
    ]


def _cross(table: pd.DataFrame | None) -> list[tuple[str, Rows]]:
    if table is None or table.empty:
        return []
    found = []
    for name, own in table.groupby("column", sort=False):
        counts = own.pivot(index="level", columns="group", values="n").fillna(0).astype(np.int64)
        counts = counts[sorted(counts.columns, key=natural_key)]
        rows = [
            [shorten(str(level), 40), *(count(n) for n in row)]
            for level, row in zip(counts.index, counts.to_numpy(), strict=True)
        ]
        found.append(
            (str(name), Rows([("level", False), *((str(one), True) for one in counts.columns)], rows, len(rows)))
        )
    return found


def _done(meta: Mapping[str, Any]) -> facts.Pairs:
    pairs: facts.Pairs = []
    if meta.get("strata"):
        pairs.append(("Grouping", str(meta["strata"])))
    pairs += facts.of_cohort(meta)
    spec = meta.get("spec") or {}
    if spec.get("healthy"):
        pairs.append(("Healthy", str(spec["healthy"])))
    if spec.get("covariates"):
        pairs.append(("Adjusted for", str(spec["covariates"])))
    for name, one in (meta.get("assays") or {}).items():
        text = f"{count(one.get('features'))} features"
        if one.get("persons_correlated"):
            text += "; samples of a person are correlated in the model"
        pairs.append((str(name), text))
    return pairs
