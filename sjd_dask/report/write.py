"""Write the page of a published result."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.store.files import writing

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.result import Result

LAYERS, QUALITY, STRATA = "layers", "qc", names.STRATA
# Rows of the table that compares this run with others.
MOST_COMPANIONS = 12


def write_report(cohort: Cohort, ref: str, path: str | os.PathLike[str], *, persons: bool = False) -> Path:
    """Write one self-contained HTML page of a result.

    Parameters
    ----------
    cohort : Cohort
    ref : str
        ``kind/name`` or ``kind/name@version``.
    path : path
        The file to write; it appears whole or not at all. The report of a night is JSON where it ends in ``.json``.
    persons : bool
        The report of a night lists the persons, and hides no count.

    Returns
    -------
    Path

    Raises
    ------
    SpecError
        For a kind of result that has no page.
    """
    result = cohort.result(ref)
    if result.kind == names.ASSOCIATIONS:
        return write_text(_association(cohort, result), path)
    if result.kind in (LAYERS, QUALITY):
        return write_text(_layer(cohort, result), path)
    if result.kind == names.EXPLANATIONS:
        return write_text(_explanation(result), path)
    if result.kind == STRATA:
        return write_text(_strata(cohort, result), path)
    if result.kind == names.MODELS:
        return write_text(_model(cohort, result), path)
    if result.kind == names.CLASSES:
        return write_text(_classes(result), path)
    if result.kind == names.CHANGES:
        return write_text(_night(result, is_json=Path(path).suffix == ".json", persons=persons), path)
    raise SpecError(
        f"no page is known for results of kind {result.kind!r} ({ref}); pages exist for {names.ASSOCIATIONS}, "
        f"{LAYERS}, {QUALITY}, {STRATA}, {names.EXPLANATIONS}, {names.MODELS}, {names.CLASSES} and {names.CHANGES}. "
        "Use `sjd export` for its table."
    )


def _association(cohort: Cohort, result: Result) -> str:
    from sjd_dask.report.html import render_association

    meta: dict[str, Any] = dict(result.meta or {})
    meta.setdefault("reference", f"{result.kind}/{result.name}@{result.version}")
    meta.setdefault("companions", companions(cohort, result))
    features = None
    if meta.get("assay"):
        snapshot = (meta.get("cohort") or {}).get("snapshot")
        features = cohort.assay(meta["assay"], snapshot=snapshot).features()
    return render_association(result.table(), meta, features)


def _layer(cohort: Cohort, result: Result) -> str:
    from sjd_dask.report.layer_page import render_layer

    quality = result if result.kind == QUALITY else quality_of(cohort, result)
    meta: dict[str, Any] = {**((quality.meta or {}) if quality else {}), **(result.meta or {})}
    meta["reference"] = f"{result.kind}/{result.name}@{result.version}"
    tables = {}
    if quality is not None:
        meta["qc"] = quality.ref
        tables = {name: quality.to_pandas(name) for name in quality.tables}
    return render_layer(meta, tables)


def _strata(cohort: Cohort, result: Result) -> str:
    from sjd_dask.report.strata_page import render_strata

    meta: dict[str, Any] = {**(result.meta or {}), "reference": result.ref}
    # The whole consensus is for other tools: the page has a thinner one.
    tables = {name: result.to_pandas(name) for name in result.tables if name != "consensus"}
    explained = [
        one
        for one in cohort.results()
        if one.kind == names.EXPLANATIONS and (one.meta or {}).get("strata") == result.ref and "modules" in one.tables
    ]
    if explained:
        newest = max(explained, key=lambda one: one.published_in)
        tables["modules"] = newest.to_pandas("modules")
        meta["explanation"] = newest.ref
    return render_strata(meta, tables, _symbols(cohort, meta, tables))


def _symbols(cohort: Cohort, meta: dict[str, Any], tables: dict[str, Any]) -> dict[str, str]:
    """Gene symbols of the features that made the groups, where the assay knows them."""
    centroids = tables.get("centroids")
    return {} if centroids is None else _symbols_of(cohort, meta, centroids[names.FEATURE_ID])


def _symbols_of(cohort: Cohort, meta: dict[str, Any], wanted: Any) -> dict[str, str]:
    name = str(meta.get("assay") or "")
    if not name:
        return {}
    snapshot = (meta.get("cohort") or {}).get("snapshot")
    opened = cohort.layer(name) if name.startswith("layers/") else cohort.assay(name, snapshot=snapshot)
    features = opened.features()
    if names.GENE_SYMBOL not in features:
        return {}
    known = features.loc[features.index.intersection(wanted), names.GENE_SYMBOL].dropna()
    return {str(feature): str(symbol) for feature, symbol in known.items() if symbol}


def _model(cohort: Cohort, result: Result) -> str:
    from sjd_dask.report.model_page import render_model

    meta: dict[str, Any] = {**(result.meta or {}), "reference": result.ref}
    found = [one for one in cohort.models() if one.ref == result.ref]
    state = None
    if found:
        at = found[0].promoted_at
        state = {
            "is_production": found[0].is_production,
            "promoted_by": found[0].promoted_by,
            "promoted_why": found[0].promoted_why,
            "promoted_at": None if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC",
        }
    return render_model(meta, _symbols_of(cohort, meta, result.to_pandas()[names.FEATURE_ID]), state)


def _classes(result: Result) -> str:
    from sjd_dask.report.classes_page import render_classes

    scores = result.to_pandas("scores") if "scores" in result.tables else None
    return render_classes({**(result.meta or {}), "reference": result.ref}, result.to_pandas(), scores)


def _explanation(result: Result) -> str:
    from sjd_dask.report.explain_page import render_explanation

    meta: dict[str, Any] = {**(result.meta or {}), "reference": result.ref}
    # The features of every comparison stay where they are: the page has those of smallest p.
    return render_explanation(meta, {name: result.to_pandas(name) for name in result.tables if name != "table"})


def _night(result: Result, *, is_json: bool, persons: bool) -> str:
    from sjd_dask.report.night_facts import night_json, night_report
    from sjd_dask.report.night_page import render_night

    meta: dict[str, Any] = {**(result.meta or {}), "reference": result.ref}
    tables = {name: result.to_pandas(name) for name in ("table", "drift") if name in result.tables}
    report = night_report(meta, tables, persons=persons)
    return night_json(report) if is_json else render_night(report, meta.get("spec"))


def quality_of(cohort: Cohort, layer: Result) -> Result | None:
    """The quality tables of a version of a layer: those it names, else the newest made for it."""
    named = (layer.meta or {}).get("qc")
    if named:
        return cohort.result(str(named))
    found = [one for one in cohort.results() if one.kind == QUALITY and one.name == layer.name]
    for key, value in (
        ("parameters_hash", (layer.meta or {}).get("parameters_hash")),
        ("layer_version", layer.version),
    ):
        found = [one for one in found if value is None or (one.meta or {}).get(key) in (None, value)]
    return max(found, key=lambda one: one.version, default=None)


def companions(cohort: Cohort, result: Result) -> list[dict[str, Any]]:
    """Newest versions of other associations of the same assay with a contrast of the same name, to compare lambda."""
    own = result.meta or {}
    lambdas = own.get("lambdas") or {}
    newest: dict[str, Result] = {}
    for other in cohort.results():
        if (
            other.kind == result.kind
            and other.name != result.name
            and (other.meta or {}).get("assay") == own.get("assay")
        ):
            known = newest.get(other.name)
            if known is None or other.version > known.version:
                newest[other.name] = other
    found = []
    for other in newest.values():
        for contrast, value in (other.meta.get("lambdas") or {}).items():
            if contrast in lambdas and value is not None:
                found.append(
                    {
                        "label": other.name,
                        "reference": other.ref,
                        "design": other.meta.get("design"),
                        "contrast": contrast,
                        "lambda": value,
                        "n_features": (other.meta.get("features") or {}).get("tested"),
                        "n_q05": (other.meta.get("n_q05") or {}).get(contrast),
                        "n_samples": (other.meta.get("samples") or {}).get("used"),
                    }
                )
    return found[:MOST_COMPANIONS]


def write_text(text: str, path: str | os.PathLike[str]) -> Path:
    """Write a text file whole or not at all."""
    target = Path(path)
    with writing(str(target), "no page was written"):
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return target
