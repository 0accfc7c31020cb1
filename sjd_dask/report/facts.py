"""The facts of a run as lists of (name, value) pairs for the page; what ``meta`` does not say is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sjd_dask.report.format import count, expression, number, spread

Pairs = list[tuple[str, str]]

TESTS = {
    "linear": "linear model per feature",
    "wilcoxon": "Wilcoxon rank-sum test per feature",
    "kruskal": "Kruskal-Wallis test per feature",
    "welch": "Welch test per feature",
}
QUANTITIES = {
    "m_value": "M-values, log2(beta / (1 - beta))",
    "beta": "beta values",
    "counts": "counts",
    "expression": "expression",
    "concentration": "concentrations",
    "proportion": "proportions",
    "dosage": "dosages",
}
EFFECTS = {"m_value": "difference in M-value", "beta": "difference in beta", "expression": "difference in expression"}


def effect_label(meta: Mapping[str, Any]) -> str:
    """Name of the effect, for axes and table."""
    if meta.get("effect_label"):
        return str(meta["effect_label"])
    return EFFECTS.get(str(meta.get("quantity")), "effect")


def what_was_run(meta: Mapping[str, Any]) -> Pairs:
    """Test, design, contrasts and options."""
    pairs: Pairs = []
    if meta.get("test"):
        pairs.append(("Test", TESTS.get(meta["test"], str(meta["test"]))))
    if meta.get("design"):
        pairs.append(("Design", str(meta["design"])))
    if meta.get("coefficients"):
        pairs.append(("Coefficients", ", ".join(map(str, meta["coefficients"]))))
    for name, weights in (meta.get("contrasts") or {}).items():
        text = expression(dict(weights)) if isinstance(weights, Mapping) else str(weights)
        if text != name:
            pairs.append((f"Contrast {name}", text))
    if meta.get("moderation") == "ebayes":
        options = [word for word in ("trend", "robust") if meta.get(word)]
        pairs.append(("Variances", "moderated by empirical Bayes" + (f" ({', '.join(options)})" if options else "")))
    elif meta.get("moderation") == "none":
        pairs.append(("Variances", "not moderated"))
    prior = meta.get("prior") or {}
    if prior:
        text = f"degrees of freedom {spread(prior.get('df'))}, variance {spread(prior.get('s2'))}"
        if prior.get("robust_outliers") is not None:
            text += f"; {count(prior['robust_outliers'])} features with a smaller prior as outliers"
        pairs.append(("Prior", text))
    block = meta.get("block") or {}
    if block:
        text = str(block.get("column", ""))
        if block.get("n_blocks") is not None:
            text += f", {count(block['n_blocks'])} blocks"
        if block.get("correlation") is not None:
            text += f", consensus correlation {number(block['correlation'])}"
        pairs.append(("Repeated measures", text))
    for key, label in (("precision", "Arithmetic"), ("na_contrasts", "Contrasts with missing values")):
        if meta.get(key):
            pairs.append((label, str(meta[key]) + (" precision" if key == "precision" else "")))
    return pairs


def of_cohort(meta: Mapping[str, Any]) -> Pairs:
    """The cohort and its snapshot, where the meta names them."""
    cohort = meta.get("cohort") or {}
    if not cohort:
        return []
    text = str(cohort.get("name") or cohort.get("path") or "")
    if cohort.get("snapshot") is not None:
        text += f", snapshot {cohort['snapshot']}"
    return [("Cohort", text)]


def on_what(meta: Mapping[str, Any]) -> Pairs:
    """Cohort, assay, quantity and storage."""
    pairs = of_cohort(meta)
    if meta.get("assay"):
        pairs.append(("Assay", str(meta["assay"])))
    if meta.get("quantity"):
        pairs.append(("Quantity tested", QUANTITIES.get(meta["quantity"], str(meta["quantity"]))))
    encoding = meta.get("encoding") or {}
    if encoding:
        pairs.append(("Stored as", stored_as(encoding)))
    samples, features = meta.get("samples") or {}, meta.get("features") or {}
    if samples.get("filter"):
        pairs.append(("Samples chosen by", str(samples["filter"])))
    for name, levels in (meta.get("groups") or {}).items():
        pairs.append((f"Samples by {name}", ", ".join(f"{level} {count(n)}" for level, n in levels.items())))
    if features.get("with_missing") is not None:
        pairs.append(("Features with missing values", count(features["with_missing"])))
    return pairs


def stored_as(encoding: Mapping[str, Any]) -> str:
    """How the values lie on disk, in words."""
    text = str(encoding.get("dtype", ""))
    if encoding.get("stored_quantity"):
        text += f" {encoding['stored_quantity']} values"
    if encoding.get("max_error"):
        text += f", error at most {number(encoding['max_error'], 2)} on that scale"
    elif encoding.get("scale_factor") is None and text:
        text += ", without rounding"
    return text


def left_out(selected: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Reasons and counts, largest first."""
    dropped = [d for d in selected.get("dropped") or [] if d.get("count")]
    dropped.sort(key=lambda d: -int(d["count"]))
    return [(str(d.get("reason", "")), count(d["count"])) for d in dropped]


def provenance(meta: Mapping[str, Any]) -> Pairs:
    """Run, fingerprint, versions, times."""
    run = meta.get("run") or {}
    labels = {
        "id": "Run",
        "fingerprint": "Fingerprint",
        "created": "Started",
        "finished": "Finished",
        "cluster": "Ran on",
        "package_version": "sjd-dask",
        "python": "Python",
    }
    pairs = [(label, str(run[key])) for key, label in labels.items() if run.get(key)]
    if run.get("seconds") is not None:
        pairs.insert(min(4, len(pairs)), ("Duration", f"{number(run['seconds'], 3)} s"))
    if run.get("libraries"):
        pairs.append(("Libraries", ", ".join(f"{name} {version}" for name, version in run["libraries"].items())))
    return pairs
