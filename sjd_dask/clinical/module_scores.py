"""Module scores by a frozen reference: the healthy say once what is usual, then every sample is scored by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy import sparse

from sjd_dask.clinical import module_lists
from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.measures import Measure
from sjd_dask.clinical.reasons import missing_reason
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.gene_modules import module_scores, spread_of

Floats = NDArray[np.float64]

NAME = "modules"


class Feature(BaseModel):
    """A feature of a module: what is usual, and its weight (negative: low values mean high activity)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mean: float
    sd: float
    weight: float


class Module(BaseModel):
    """A module: its features by id, its score in the healthy, and the genes that weren't found."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    n_genes: int
    n_matched: int
    missing: list[str]
    healthy_mean: float
    healthy_sd: float
    high_above: float
    features: dict[str, Feature]


class ModuleReference(BaseModel):
    """What `fit_modules` found, as it stands in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["sjd-dask module reference"] = "sjd-dask module reference"
    version: Literal[1] = 1
    measure: Literal["modules"] = "modules"
    source: str
    values: Literal["expression", "methylation"]
    n_healthy: int
    least_known: float
    renamed: list[str]
    modules: list[Module]


def fit_modules(
    values: Any,
    healthy: Any,
    *,
    symbols: Any = None,
    modules: str | Path | Mapping[str, Sequence[str]] | None = None,
    kind: Literal["expression", "methylation"] = "expression",
    name: str = "the given samples",
    definitions: Overrides | None = None,
) -> dict[str, Any]:
    """What is usual in the healthy, for module scores of any sample on the same scale.

    Parameters
    ----------
    values : DataFrame (samples x features) or DataArray (samples, features)
        On a scale where differences mean something: log expression, M-values. Only features of modules are loaded.
    healthy : sequence of str, or boolean Series by sample id
        Who is healthy.
    symbols : Series or mapping, optional
        Gene symbol of each feature id; without it features are looked for by their ids.
    modules : path of a GMT file, or mapping of name -> genes, optional
        Beside the built-in ones.
    kind : str
        ``methylation`` turns the built-in scores, and takes a user's sets by feature id only.
    name : str
        What the healthy are called in the model.
    definitions
        ``modules`` counts.

    Returns
    -------
    dict
        For `score_modules`, or as JSON in a file; says of each module which genes are missing, and which were found by
        an older or newer name.

    Raises
    ------
    DataError
        Fewer than five healthy samples, ids that aren't there, or no gene of any module.
    SpecError
        A GMT file that can't be read.

    Notes
    -----
    Score: mean over a module's genes of (x - mean of the healthy) / SD of the healthy (K); features of one gene share
    its weight. A feature that most of the healthy have at one value is left out. High: above mean + 2 SD of the score
    in the healthy (published for the methylation score [1]_, P; used for all here, K).

    References
    ----------
    .. [1] Short interferon lists and the cut-off: published lists of the field (mark P); the form of the score: mark K.
    """
    given: Mapping[str, Sequence[str]] = {}
    if isinstance(modules, Mapping):
        given = modules
    elif modules is not None:
        try:
            given = module_lists.read_gmt(Path(modules).read_text(encoding="utf-8"), Path(modules).name)
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"the GMT file {modules} can't be read: {error}") from None
    sample_ids, feature_ids = _labels(values)
    rules = {key: entry["value"] for key, entry in load_definition(NAME, definitions)["rules"].items()}
    rows = _healthy_rows(sample_ids, healthy, rules["least_healthy"])
    of_feature = (
        None if symbols is None else pd.Series(symbols, dtype=object).reindex(feature_ids).to_numpy(dtype=object)
    )
    wanted = module_lists.modules_of(kind, given, definitions)
    named = module_lists.match_modules(wanted, feature_ids, of_feature, definitions=definitions)
    usable = np.zeros(len(feature_ids), dtype=bool)
    mean, sd = np.full((2, len(feature_ids)), np.nan)
    there = _taken(values, rows, named.features)
    mean[named.features], sd[named.features], usable[named.features] = spread_of(there)
    found = module_lists.match_modules(wanted, feature_ids, of_feature, usable, definitions)
    if not found.names:
        raise DataError(
            f"no gene of any module ({', '.join(wanted)}) is among the {len(feature_ids):,} features with a spread in "
            "the healthy: give gene symbols of the features (`symbols`), or values of a kind that the modules are for"
        )
    least = float(rules["least_known"])
    columns = np.searchsorted(named.features, found.features)
    scores = module_scores(there[:, columns], mean[found.features], sd[found.features], found.weights, least)
    table = found.table.set_index("module")
    made = []
    for m, one in enumerate(found.names):
        own = scores[:, m][np.isfinite(scores[:, m])]
        if len(own) < rules["least_healthy"]:
            raise DataError(
                f"module {one!r} has a score in {len(own)} of {len(rows)} healthy samples, and what is high wants "
                f"{rules['least_healthy']}: its genes have too many missing values"
            )
        centre, spread = float(own.mean()), float(own.std(ddof=1))
        at = found.weights[:, [m]].tocoo()
        features = {
            str(feature_ids[found.features[i]]): Feature(
                mean=float(mean[found.features[i]]), sd=float(sd[found.features[i]]), weight=float(weight)
            )
            for i, weight in zip(at.row, at.data, strict=True)
        }
        made.append(
            Module(
                name=one,
                n_genes=int(table.loc[one, "n_genes"]),
                n_matched=int(table.loc[one, "n_matched"]),
                missing=[gene for gene in str(table.loc[one, "missing"]).split(", ") if gene],
                healthy_mean=centre,
                healthy_sd=spread,
                high_above=centre + float(rules["high"]) * spread,
                features=features,
            )
        )
    return ModuleReference(
        source=f"{len(rows):,} healthy samples of {name}",
        values=kind,
        n_healthy=len(rows),
        least_known=least,
        renamed=list(found.renamed),
        modules=made,
    ).model_dump()


def score_modules(values: Any, model: str | Path | Mapping[str, Any] | ModuleReference) -> pd.DataFrame:
    """Module scores of samples by a frozen reference, each by itself.

    Parameters
    ----------
    values : DataFrame (samples x features) or DataArray (samples, features)
        On the scale that the reference was made of; features in any order, missing ones count as missing.
    model : path or mapping
        Of `fit_modules`.

    Returns
    -------
    DataFrame
        Index sample ids; for each module ``<module>`` (missing where values of less than half of its genes are known),
        ``<module>_high`` (1 above the healthy mean + 2 SD, 0 not, missing where the score is), ``<module>_known``,
        ``<module>_items`` (features) and ``<module>_reason``. Expression has no bounds, so a score has no interval.

    Raises
    ------
    SpecError
        No such reference.
    DataError
        None of its features.
    """
    frozen = read_reference(model)
    sample_ids, feature_ids = _labels(values)
    wanted = list(dict.fromkeys(feature for one in frozen.modules for feature in one.features))
    at = pd.Index(feature_ids, dtype=object).get_indexer(pd.Index(wanted, dtype=object))
    if not (at >= 0).any():
        raise DataError(
            f"none of the {len(wanted)} features of the module reference ({', '.join(wanted[:4])}, ...) is there: it "
            "was made of other features; fit it on samples of this platform"
        )
    data = np.full((len(sample_ids), len(wanted)), np.nan)
    data[:, at >= 0] = _taken(values, np.arange(len(sample_ids)), at[at >= 0])
    return _scored(frozen, data, wanted).set_index(pd.Index(sample_ids, name="sample_id", dtype=object))


def modules(
    sheet: Sheet,
    *,
    model: str | Path | Mapping[str, Any] | ModuleReference | None = None,
    definitions: Overrides | None = None,
) -> pd.DataFrame:
    """Module scores of a sheet whose columns hold values of genes, as of a small panel.

    Parameters
    ----------
    sheet : Sheet
        Columns are called as the reference's features.
    model : path or mapping
        Of `fit_modules`.

    Returns
    -------
    DataFrame
        As `score_modules`.

    Raises
    ------
    SpecError
        No model, or none of its columns.
    DataError
        A value that is no number.
    """
    if model is None:
        raise SpecError(
            "modules needs a reference of what is usual in the healthy: make it with `fit_modules` and give its file "
            "(`--model FILE`)"
        )
    frozen = read_reference(model)
    wanted = list(dict.fromkeys(feature for one in frozen.modules for feature in one.features))
    if not any(one in sheet.frame for one in wanted):
        raise SpecError(f"the sheet has none of the reference's columns: {', '.join(wanted[:12])}")
    return _scored(frozen, np.column_stack([_numbers(sheet, one) for one in wanted]), wanted)


def read_reference(model: str | Path | Mapping[str, Any] | ModuleReference) -> ModuleReference:
    """A module reference from its file, or from what such a file holds.

    Raises
    ------
    SpecError
        A file that can't be read, or holds something else.
    """
    if isinstance(model, ModuleReference):
        return model
    where = "the given module reference"
    given: Any = model
    if not isinstance(model, Mapping):
        where = f"the module reference {model}"
        try:
            given = json.loads(Path(model).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SpecError(f"{where} can't be read: {error}") from None
    try:
        return ModuleReference.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(f"{where} is none: {'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from None


def _scored(frozen: ModuleReference, data: Floats, wanted: list[str]) -> pd.DataFrame:
    place = {feature: j for j, feature in enumerate(wanted)}
    made: dict[str, Any] = {}
    for one in frozen.modules:
        columns = [place[feature] for feature in one.features]
        own = np.ascontiguousarray(data[:, columns])
        mean, sd, weight = np.array([[f.mean, f.sd, f.weight] for f in one.features.values()]).T
        score = module_scores(own, mean, sd, sparse.csc_matrix(weight[:, None]), frozen.least_known)[:, 0]
        known = np.isfinite(own)
        made[one.name] = score
        made[f"{one.name}_high"] = np.where(np.isnan(score), np.nan, (score > one.high_above).astype(np.float64))
        made[f"{one.name}_known"] = known.sum(axis=1)
        made[f"{one.name}_items"] = np.full(len(own), len(columns))
        made[f"{one.name}_reason"] = missing_reason(known, list(one.features))
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in made.items()})


def _numbers(sheet: Sheet, name: str) -> Floats:
    if name not in sheet.frame:
        return np.full(sheet.n, np.nan)
    text = sheet.text(name)
    values = pd.to_numeric(pd.Series(text, dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    bad = np.isnan(values) & ~pd.isna(text)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"sample {sheet.ids['sample_id'].iloc[row]!r}, column {name!r}: {text[row]!r} is no number; write a "
            f"number, or leave it empty ({int(bad.sum()):,} such values)"
        )
    return np.where(np.isfinite(values), values, np.nan)


def _labels(values: Any) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    if isinstance(values, pd.DataFrame):
        found = values.index, values.columns
    elif hasattr(values, "coords") and {"sample_id", "feature_id"} <= set(values.coords):
        found = values.coords["sample_id"].values, values.coords["feature_id"].values
    else:
        raise SpecError(
            "values of modules are a DataFrame (sample ids in the index, feature ids in the columns) or a DataArray "
            f"with the coordinates sample_id and feature_id, not {type(values).__name__}"
        )
    samples, features = (np.array([str(one) for one in ids], dtype=object) for ids in found)
    twice = pd.Index(features).duplicated()
    if twice.any():
        raise DataError(
            f"feature {features[twice][0]!r} is there twice ({int(twice.sum())} repeated): keep one of each"
        )
    return samples, features


def _taken(values: Any, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    if isinstance(values, pd.DataFrame):
        part = values.iloc[:, columns].to_numpy(dtype=np.float64)
    else:
        part = values.transpose("samples", "features").isel(features=columns).values
    # One layout, for one order of sums.
    return np.ascontiguousarray(part, dtype=np.float64)[rows]


def _healthy_rows(sample_ids: NDArray[np.object_], healthy: Any, least: int) -> NDArray[np.int64]:
    if isinstance(healthy, pd.Series):
        healthy = healthy.index[healthy.fillna(False).astype(bool)]
    wanted = list(dict.fromkeys(str(one) for one in healthy))
    rows = pd.Index(sample_ids).get_indexer(pd.Index(wanted, dtype=object))
    if (rows < 0).any():
        absent = [one for one, row in zip(wanted, rows, strict=True) if row < 0]
        raise DataError(
            f"healthy sample {absent[0]!r} is not among the samples ({len(absent)} of {len(wanted)} are not)"
        )
    if len(rows) < least:
        raise DataError(f"{len(rows)} healthy samples: a spread wants {least} at least")
    return np.sort(rows).astype(np.int64)


MEASURE = Measure(
    name=NAME,
    function=modules,
    title="Module scores of genes in a sheet's columns, by a reference of the healthy",
    columns={
        "<module>": ("number", "mean over genes of (x - mean of the healthy) / SD of the healthy"),
        "<module>_high": ("flag", "above the healthy mean + 2 SD"),
        "<module>_known": ("integer", "features known"),
        "<module>_items": ("integer", "features asked"),
        "<module>_reason": ("text", "features that are missing; empty where none"),
    },
    needs_model=True,
)
