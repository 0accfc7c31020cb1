"""The facts of a layer and the rows of its tables, as a page shows them; what ``meta`` does not say is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.report.facts import QUANTITIES, Pairs, of_cohort, stored_as
from sjd_dask.report.format import count, number, shorten

METHODS = {
    "library_size": "library sizes",
    "filter_by_expr": "features with enough counts in enough reference samples",
    "tmm": "trimmed mean of M-values against a frozen reference sample",
    "tmmwsp": "trimmed mean of M-values with singleton pairing",
    "rle": "median of ratios to frozen geometric means",
    "upper_quartile": "upper quartile factors",
    "log_cpm": "log2 counts per million",
    "voom": "log2 counts per million as voom takes them",
    "vst": "variance-stabilising transform with a frozen trend",
    "m_value": "M-values of betas",
    "beta": "betas of M-values",
    "mask_probes": "features left out for all samples",
    "normexp": "background correction by the normal-exponential model",
    "quantile": "quantile normalisation to a frozen target",
    "scale": "median of each sample moved to that of the reference",
    "bmiq": "type II probes given the distribution of type I",
    "combat": "ComBat batch adjustment",
    "remove_batch_effect": "linear removal of batch effects",
    "limit_of_detection": "values below the limit of detection replaced",
    "log": "logarithm",
    "arcsinh": "inverse hyperbolic sine",
    "logit": "log odds",
    "clr": "centred log ratio",
    "standardise": "z-scores",
    "plate_centre": "plate centring",
}
MOST_ROWS = 50
MOST_BATCHES = 60
# What a flag is called.
MASKS = {"detection_p": "detection p above {:g}", "bead_count": "bead count below {:g}"}
FLAGS = {
    "failed_array": "failed array",
    "sex_mismatch": "sex differs from the sheet",
    "outlier_library_size": "library size",
    "outlier_missing_before": "missing values",
    "outlier_median_after": "median value",
    "outlier_iqr_after": "spread of values",
    "outlier_distance_to_reference": "far from the reference",
}


@dataclass(frozen=True)
class Rows:
    """A table of the page: some rows of all, numbers already as text."""

    columns: list[tuple[str, bool]]  # title, is it a number
    rows: list[list[str]]
    n_all: int


def steps(meta: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name, meaning and options of each step."""
    found = []
    for step in meta.get("steps") or []:
        method = str(step.get("method", ""))
        options = step.get("options") or {}
        text = ", ".join(
            f"{key} {_option(value)}" for key, value in options.items() if key != "method" and value is not None
        )
        version = step.get("version")
        found.append({
            "method": method,
            "meaning": METHODS.get(method, ""),
            "options": text,
            "version": "" if version is None else str(version),
            "note": str(step.get("note") or ""),
        })  # fmt: skip
    return found


def what_was_done(meta: Mapping[str, Any]) -> Pairs:
    """Source, scales, parameters."""
    pairs: Pairs = []
    for key, label in (("layer", "Layer"), ("assay", "From assay")):
        if meta.get(key):
            text = str(meta[key])
            if key == "layer" and meta.get("layer_version") is not None:
                text += f", version {meta['layer_version']}"
            pairs.append((label, text))
    scales = [
        QUANTITIES.get(str(meta[key]), str(meta[key])) for key in ("scale_before", "scale_after") if meta.get(key)
    ]
    if len(scales) == 2:
        pairs.append(("Values", scales[0] if scales[0] == scales[1] else f"{scales[0]} to {scales[1]}"))
    masks = meta.get("masks") or {}
    limits = [text.format(masks[name]) for name, text in MASKS.items() if name in masks]
    if limits:
        pairs.append(("Masked first", ", ".join(limits)))
    taken = meta.get("parameters")
    if taken or meta.get("parameters_hash"):
        pairs.append(("Parameters", f"taken from {taken}" if taken else "fitted in this run, and frozen"))
    if meta.get("parameters_hash"):
        pairs.append(("Hash of the parameters", str(meta["parameters_hash"])))
    reference = meta.get("reference_samples") or {}
    if reference:
        text = f"{count(reference.get('count'))} samples"
        if reference.get("filter"):
            text += f", chosen by {reference['filter']}"
        pairs.append(("Reference", text))
        if reference.get("hash"):
            pairs.append(("Hash of the reference", str(reference["hash"])))
    return pairs


def on_what(meta: Mapping[str, Any]) -> Pairs:
    """Cohort, samples, columns, storage."""
    pairs = of_cohort(meta)
    samples = meta.get("samples") or {}
    if samples.get("filter"):
        pairs.append(("Samples chosen by", str(samples["filter"])))
    if meta.get("batch_column"):
        pairs.append(("Batch", str(meta["batch_column"])))
    if meta.get("sex_column"):
        pairs.append(("Recorded sex", str(meta["sex_column"])))
    if meta.get("encoding"):
        pairs.append(("Source stored as", stored_as(meta["encoding"])))
    return pairs


def flagged(table: pd.DataFrame) -> Rows:
    """Samples with a flag, most flags first."""
    chosen = table[table["is_flagged"]]
    n_all = len(chosen)
    order = np.lexsort((-_column(chosen, "distance_to_reference"), -_column(chosen, "n_flags")))
    chosen = chosen.iloc[order[:MOST_ROWS]]
    columns = [("sample", False)] + ([("batch", False)] if "batch" in table else []) + [("why", False)]
    shown = [
        (title, name)
        for title, name in (
            ("library size", "library_size"),
            ("missing, %", "missing_before"),
            ("median", "median_after"),
            ("spread (IQR)", "iqr_after"),
            ("distance", "distance_to_reference"),
            ("correlation", "correlation_to_reference"),
        )
        if name in table and table[name].notna().any()
    ]
    rows = []
    for record in chosen.to_dict("records"):
        row = [shorten(str(record[names.SAMPLE_ID]), 40)]
        if "batch" in table:
            row.append(_text(record["batch"]))
        row.append(why(record))
        row += [_cell(name, record[name]) for _, name in shown]
        rows.append(row)
    return Rows(columns + [(title, True) for title, _ in shown], rows, n_all)


def why(record: Mapping[Any, Any]) -> str:
    """The flags of a sample in words."""
    found = []
    for flag, text in FLAGS.items():
        if record.get(flag) is True:
            if flag == "sex_mismatch" and record.get("predicted_sex"):
                text = f"looks {record['predicted_sex']}, recorded otherwise"
            found.append(text)
    known = {*FLAGS, "is_outlier", "is_swapped", "is_flagged"}
    found += [
        key.removeprefix("outlier_").replace("_", " ")
        for key, value in record.items()
        if str(key).startswith("outlier_") and key not in known and bool(value)
    ]
    if record.get("is_swapped") and not record.get("sex_mismatch"):
        found.append("differs from other arrays of the person")
    return ", ".join(found)


def pending(table: pd.DataFrame) -> Rows:
    """Samples without values, by reason and batch as they lie."""
    chosen = table[table["status"] != "ok"]
    columns = [("sample", False)] + ([("batch", False)] if "batch" in table else []) + [("why", False)]
    rows = []
    for record in chosen.head(MOST_ROWS).to_dict("records"):
        row = [shorten(str(record[names.SAMPLE_ID]), 40)]
        if "batch" in table:
            row.append(_text(record["batch"]))
        rows.append([*row, str(record["status"]).replace("_", " ")])
    return Rows(columns, rows, len(chosen))


def batches(table: pd.DataFrame) -> Rows | None:
    """One row a batch, in the order of the table: those with most flagged or pending samples. None without batches."""
    if "batch" not in table:
        return None
    work = pd.DataFrame({
        "batch": table["batch"].fillna("–"),
        "samples": 1,
        "reference": table["in_reference"].to_numpy(dtype=bool),
        "pending": (table["status"] != "ok").to_numpy(),
        "flagged": table["is_flagged"].to_numpy(dtype=bool),
        "before": _column(table, "median_before"),
        "after": _column(table, "median_after"),
        "distance": _column(table, "distance_to_reference"),
    })  # fmt: skip
    grouped = work.groupby("batch", sort=False)
    sums = grouped[["samples", "reference", "pending", "flagged"]].sum()
    middle = grouped[["before", "after", "distance"]].median()
    trouble = ((sums["pending"] + sums["flagged"]) / sums["samples"]).to_numpy()
    worst = np.argsort(-trouble, kind="stable")[:MOST_BATCHES]
    rows = [
        [shorten(str(name), 40), *(count(n) for n in sums.loc[name]), *(number(v, 3) for v in middle.loc[name])]
        for name in sums.index[np.sort(worst)]
    ]
    titles = ("samples", "in the reference", "pending", "flagged", "median before", "median after", "distance")
    return Rows([("batch", False), *((title, True) for title in titles)], rows, len(sums))


def _column(table: pd.DataFrame, name: str) -> np.ndarray:
    if name not in table:
        return np.full(len(table), np.nan)
    return (
        np.nan_to_num(table[name].to_numpy(dtype=float), nan=-np.inf)
        if name == "n_flags"
        else table[name].to_numpy(float)
    )


def _cell(name: str, value: Any) -> str:
    if name == "library_size" and value is not None and np.isfinite(value):
        return count(round(value))
    return number(100 * value if name == "missing_before" else value, 3)


def _text(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else shorten(str(value), 40)


def _option(value: Any) -> str:
    if isinstance(value, float):
        return number(value, 6)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value)


def agreement_rows(table: pd.DataFrame | None, what: str) -> Rows | None:
    """Agreement of a grouping with other labels (`what`, in words), as both pages of a grouping show it."""
    if table is None or table.empty:
        return None
    rows = [
        [
            shorten(str(r["column"]), 40),
            count(r["n_samples"]),
            count(r["n_levels"]),
            number(r["ari"], 3),
            number(r["nmi"], 3),
        ]
        for r in table.to_dict("records")
    ]
    titles = ("samples", "levels", "adjusted Rand index", "normalised mutual information")
    return Rows([(what, False), *((one, True) for one in titles)], rows, len(rows))
