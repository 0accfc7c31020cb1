"""Pages of results: one self-contained HTML text each."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.report import facts
from sjd_dask.report.format import expression, number, plain, shorten, spec_text
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri
from sjd_dask.report.summary import ContrastSummary, split_contrasts, summarise
from sjd_dask.report.thin import KEPT
from sjd_dask.report.toptable import TopTable, top_table

if TYPE_CHECKING:
    import pyarrow as pa

# A page holds at most this many rows of tables and contrasts with figures, so that it stays a page.
MAX_ROWS_PER_CONTRAST = 500
MAX_ROWS = 2000
MAX_SECTIONS = 8


@dataclass(frozen=True)
class Section:
    """One contrast on the page."""

    anchor: str
    title: str
    meaning: str
    summary: ContrastSummary
    table: TopTable
    pictures: list[Picture] = field(default_factory=list)


def render_association(table: pa.Table | pd.DataFrame, meta: Mapping[str, Any], features: pd.DataFrame | None) -> str:
    """The page of one ``associations/NAME``.

    Parameters
    ----------
    table : pyarrow.Table or DataFrame
        Columns as ``names.ASSOCIATION_COLUMNS``; rows of contrast ``F`` make the section on the F-test.
    meta : mapping
        See :class:`sjd_dask.report.meta.AssociationMeta`; every key is optional.
    features : DataFrame or None
        ``feature_id`` as column or index, and any of ``chromosome``, ``position``, ``gene_symbol``.

    Returns
    -------
    str
        HTML that fetches nothing. User text is escaped; a content policy in the page stops any script but its own.
    """
    contrasts = dict(meta.get("contrasts") or {})
    parts = split_contrasts(table, list(contrasts))
    summaries = [summarise(name, rows, meta.get("lambdas") or {}) for name, rows in parts.items()]
    shown = list(parts)[:MAX_SECTIONS]
    limit = min(MAX_ROWS_PER_CONTRAST, MAX_ROWS // max(len(shown), 1))
    annotations = _Annotations(features)
    label = facts.effect_label(meta)
    sections = [
        _section(i, name, parts[name], summary, annotations.of(parts[name]), contrasts.get(name), label, limit)
        for i, (name, summary) in enumerate(zip(shown, summaries, strict=False))
    ]
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "table.js"))
    reference = str(meta.get("reference") or "association")
    return (
        environment()
        .get_template("association.html.j2")
        .render(
            title=str(meta.get("title") or reference),
            reference=reference,
            export_name=reference.split("@")[0].split("/")[-1],
            cohort_path=str((meta.get("cohort") or {}).get("path") or "COHORT"),
            style=style,
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            warnings=[str(w) for w in meta.get("warnings") or []],
            summaries=summaries,
            sections=sections,
            n_hidden=len(parts) - len(shown),
            has_effects=any(s.n_up or s.n_down for s in summaries),
            what=facts.what_was_run(meta),
            where=facts.on_what(meta),
            samples=meta.get("samples") or {},
            samples_out=facts.left_out(meta.get("samples") or {}),
            features=meta.get("features") or {},
            features_out=facts.left_out(meta.get("features") or {}),
            companions=_companions(meta, summaries),
            provenance=facts.provenance(meta),
            spec=spec_text(meta["spec"]) if meta.get("spec") else "",
            f_contrast=names.F_CONTRAST,
        )
    )


class _Annotations:
    """Feature columns in the order of a contrast's rows."""

    def __init__(self, features: pd.DataFrame | None) -> None:
        self._table: pd.DataFrame | None = None
        if features is None:
            return
        if names.FEATURE_ID in features.columns:
            features = features.set_index(names.FEATURE_ID)
        wanted = [c for c in (names.CHROMOSOME, names.POSITION, names.GENE_SYMBOL) if c in features.columns]
        if wanted:
            table = features[wanted]
            self._table = table[~table.index.duplicated()]

    def of(self, rows: pd.DataFrame) -> pd.DataFrame | None:
        if self._table is None:
            return None
        ids = rows[names.FEATURE_ID]
        if len(ids) == len(self._table) and (ids.to_numpy() == self._table.index.to_numpy()).all():
            return self._table
        return self._table.reindex(ids)


def _section(
    index: int,
    name: str,
    rows: pd.DataFrame,
    summary: ContrastSummary,
    annotation: pd.DataFrame | None,
    weights: Mapping[str, float] | None,
    label: str,
    limit: int,
) -> Section:
    is_f = name == names.F_CONTRAST
    meaning = expression(dict(weights)) if isinstance(weights, Mapping) else ""
    return Section(
        anchor=f"contrast-{index + 1}",
        title="F-test over all contrasts" if is_f else name,
        meaning="" if meaning == name else meaning,
        summary=summary,
        table=top_table(rows, annotation, limit, "" if is_f else label),
        pictures=_pictures(name, rows, summary, annotation, label) if summary.n_features else [],
    )


def _pictures(
    name: str, rows: pd.DataFrame, summary: ContrastSummary, annotation: pd.DataFrame | None, label: str
) -> list[Picture]:
    from sjd_dask.report import figures

    p, q, effect = (rows[c].to_numpy(dtype=np.float64) for c in ("p_value", "q_value", "effect"))
    has_p = np.isfinite(p)
    n = int(has_p.sum())
    marks = _labels(rows, annotation)
    line = " The dashed line parts q below and above 0.05." if summary.n_q05 else ""
    pictures = []
    chosen = has_p & np.isfinite(effect)
    if chosen.any():
        places = np.flatnonzero(chosen)
        svg, drawn = figures.volcano(
            effect[chosen], p[chosen], q[chosen], _Lookup(marks, places), effect_label=plain(label)
        )
        pictures.append(
            Picture(
                "volcano",
                picture_uri(svg),
                f"Volcano plot of {name}: {summary.n_up:,} features up and {summary.n_down:,} down at q below 0.05.",
                f"Effect and significance of {n:,} features; q < 0.05 in red (up, {summary.n_up:,}) and blue "
                f"(down, {summary.n_down:,}).{line}{_thinned(drawn, n, summary.n_q05)}",
            )
        )
    svg, drawn = figures.quantiles(p[has_p])
    pictures.append(
        Picture(
            "qq",
            picture_uri(svg),
            f"Quantile plot of {n:,} p-values of {name}; lambda is {number(summary.inflation, 3)}.",
            f"p-values against those of no effect anywhere; λ = {number(summary.inflation, 3)}. The band holds 95 % of "
            f"independent tests at each place; neighbours on a genome are not independent.{_thinned(drawn, n)}",
        )
    )
    pictures.append(
        Picture(
            "histogram",
            picture_uri(figures.histogram(p[has_p])),
            f"Histogram of {n:,} p-values of {name}.",
            "p-values of tests without effect are even; a peak at the left is signal or inflation.",
        )
    )
    placed = _placed(annotation, has_p)
    if placed is not None and placed.any():
        assert annotation is not None
        chromosome = annotation[names.CHROMOSOME].to_numpy(dtype=object)[placed].astype(str)
        position = annotation[names.POSITION].to_numpy(dtype=np.float64, na_value=np.nan)[placed]
        places = np.flatnonzero(placed)
        svg, drawn = figures.manhattan(chromosome, position, p[placed], q[placed], _Lookup(marks, places))
        unplaced = n - int(placed.sum())
        pictures.append(
            Picture(
                "manhattan",
                picture_uri(svg),
                f"Manhattan plot of {name}: significance along {len(np.unique(chromosome))} chromosomes.",
                f"Features along the genome, q < 0.05 in red.{line}"
                + (f" {unplaced:,} features without a known place are not shown." if unplaced else "")
                + _thinned(drawn, int(placed.sum()), summary.n_q05),
            )
        )
    return pictures


class _Lookup:
    """Names of some places, made only when asked for: a million strings are not needed for eight."""

    def __init__(self, marks: tuple[np.ndarray, np.ndarray | None], places: np.ndarray) -> None:
        self._ids, self._symbols = marks
        self._places = places

    def __getitem__(self, i: int, /) -> str:
        place = self._places[i]
        symbol = None if self._symbols is None else self._symbols[place]
        text = str(self._ids[place]) if symbol is None or pd.isna(symbol) or symbol == "" else str(symbol)
        return plain(shorten(text))


def _labels(rows: pd.DataFrame, annotation: pd.DataFrame | None) -> tuple[np.ndarray, np.ndarray | None]:
    symbols = None
    if annotation is not None and names.GENE_SYMBOL in annotation:
        symbols = annotation[names.GENE_SYMBOL].to_numpy(dtype=object)
    return rows[names.FEATURE_ID].to_numpy(), symbols


def _placed(annotation: pd.DataFrame | None, has_p: np.ndarray) -> np.ndarray | None:
    if annotation is None or not {names.CHROMOSOME, names.POSITION} <= set(annotation.columns):
        return None
    known = annotation[names.CHROMOSOME].notna().to_numpy() & annotation[names.POSITION].notna().to_numpy()
    return has_p & known


def _thinned(drawn: int, n: int, n_significant: int = 0) -> str:
    if drawn >= n:
        return ""
    text = f" {drawn:,} of {n:,} points are drawn: dots that would cover each other are drawn once"
    return text + (f", but for the {KEPT:,} of smallest p." if n_significant > KEPT else ".")


def _companions(meta: Mapping[str, Any], summaries: list[ContrastSummary]) -> list[dict[str, Any]]:
    """This run and those it is compared with, one row each; no rows without companions."""
    others = meta.get("companions") or []
    if not others:
        return []
    wanted = {c.get("contrast") for c in others}
    mine = [
        {
            "label": "this run",
            "reference": meta.get("reference", ""),
            "design": meta.get("design", ""),
            "contrast": s.name,
            "lambda": s.inflation,
            "n_features": s.n_features,
            "n_q05": s.n_q05,
            "n_samples": (meta.get("samples") or {}).get("used"),
        }
        for s in summaries
        if s.name in wanted or wanted == {None}
    ]
    empty = dict.fromkeys(("label", "reference", "design", "contrast", "lambda", "n_features", "n_q05", "n_samples"))
    return [*mine, *({**empty, **c} for c in others)]
