"""Columns of the result tables: names, types, and what they mean; `sjd schema` and `schemas/` show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sjd_dask import names

# Column -> (type, description).
Columns = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class ResultTable:
    """The main table of a kind of result.

    Attributes
    ----------
    text : str
        What a row is.
    columns : dict
        In the order they are written.
    optional : tuple of str
        Columns that a table may lack: their input isn't there.
    patterns : dict
        Columns whose names depend on the data, by regular expression.
    """

    text: str
    columns: Columns
    optional: tuple[str, ...] = ()
    patterns: Columns = field(default_factory=dict)

    def schema(self, kind: str) -> dict[str, Any]:
        """As JSON Schema of a row."""
        found: dict[str, Any] = {
            "title": f"{kind.removesuffix('-table')}/NAME",
            "description": f"{self.text} Floats are written with 17 significant digits in text.",
            "type": "object",
            "properties": {name: _property(*one) for name, one in self.columns.items()},
            "required": [name for name in self.columns if name not in self.optional],
            "additionalProperties": False,
        }
        if self.patterns:
            found["patternProperties"] = {name: _property(*one) for name, one in self.patterns.items()}
        return found


_TYPES: dict[str, Any] = {"bool": "boolean", "int32": "integer", "int64": "integer", "string": "string"}


def _property(kind: str, text: str) -> dict[str, Any]:
    plain, _, missing = kind.partition("?")
    word = _TYPES.get(plain, ["number", "null"])
    return {"type": [word, "null"] if missing else word, "dtype": plain, "description": text}


# The order is names.ASSOCIATION_COLUMNS.
ASSOCIATIONS = ResultTable(
    "One row per feature and contrast.",
    {
        names.FEATURE_ID: ("string", "Feature."),
        names.CONTRAST: (
            "string",
            "Contrast or coefficient; F is the overall test of all contrasts; a group test names its factor.",
        ),
        "effect": (
            "double",
            "Estimate, in units of the tested quantity; group tests: see the job's description; missing for F.",
        ),
        "standard_error": ("double", "Standard error of the effect, from the moderated variance where moderated."),
        "statistic": ("double", "t (moderated where asked), F, or the statistic of the group test."),
        "df": ("double", "Degrees of freedom of the statistic (of the denominator for F), prior ones included."),
        "p_value": ("double", "Two-sided p-value (upper tail for F and chi-square)."),
        "q_value": ("double", "Benjamini-Hochberg within the contrast."),
        "log_odds": (
            "double",
            "B: log-odds of differential signal, natural logarithm; missing without moderation and for F.",
        ),
        "mean": ("double", "Mean of the feature over the samples used, in units of the tested quantity."),
        "sigma": ("double", "Residual standard deviation, before moderation."),
        "n_samples": ("int64", "Samples with a value."),
    },
)

_SAMPLE: Columns = {names.SAMPLE_ID: ("string", "Sample.")}
_STAGES = {"before": "as read", "after": "after the chain"}
_SUMMARIES = {
    "minimum": "Smallest value",
    "q1": "Lower quartile (R's type 7)",
    "median": "Median",
    "q3": "Upper quartile",
    "maximum": "Largest value",
    "mean": "Mean",
    "iqr": "Interquartile range",
    "mad": "Median absolute deviation times 1.4826",
}
_FENCED = {
    "library_size": "library size (by its logarithm)",
    "missing_before": "share of missing values",
    "median_after": "median",
    "iqr_after": "interquartile range",
    "distance_to_reference": "distance to the reference",
}
_ALWAYS = (
    names.SAMPLE_ID, "status", "in_reference", "missing_before", "missing_after",
    *(f"{one}_{stage}" for stage in _STAGES for one in _SUMMARIES),
    "distance_to_reference", "correlation_to_reference", "is_outlier", "n_flags",
)  # fmt: skip
_QC: Columns = {
    **_SAMPLE,
    "status": ("string", "ok, or why the sample has no values now: pending_batch, failed_array, ..."),
    "in_reference": ("bool", "The chain was fitted on it."),
    "batch": ("string?", "Batch, of the column that the chain's batch or plate step uses."),
    "n_masked": ("double", "Values that the masks of companion assays made missing."),
    "library_size": ("double", "Sum of the counts; of those kept, after a filter."),
    "norm_factor": ("double", "Normalisation factor of the library size (edgeR)."),
    "effective_library_size": ("double", "Library size times norm factor."),
    "size_factor": ("double", "Size factor (DESeq2)."),
    "below_detection_share": ("double", "Share of the kept features below their limit of detection."),
    "n_detected": ("double", "Features with a count."),
    "missing_before": ("double", "Share of missing values as read, masked ones included."),
    "missing_after": ("double", "Share of missing values after the chain; missing for a sample without values."),
    **{
        f"{one}_{stage}": ("double", f"{text} of the features not on X or Y, {words}; counts as log2(count + 1).")
        for stage, words in _STAGES.items()
        for one, text in _SUMMARIES.items()
    },
    "low_share_after": ("double", "Share of betas below 0.2."),
    "high_share_after": ("double", "Share of betas above 0.8."),
    "x_median": ("double", "Median of the features on X."),
    "y_median": ("double", "Median of the features on Y."),
    "distance_to_reference": (
        "double",
        "Root mean square of the z-scores against the frozen reference profile: about 1 for a sample like those.",
    ),
    "correlation_to_reference": ("double", "Pearson correlation with the mean profile of the reference."),
    "predicted_sex": ("string?", "female or male, from X and Y; missing where they don't tell."),
    "sex_mismatch": ("bool", "The predicted sex is not the recorded one."),
    "failed_array": ("bool", "Betas that no working array gives: a mode is absent, or too many values are."),
    "rs_discordance": ("double", "Share of SNP probes whose genotype differs from the person's other arrays."),
    "is_swapped": ("bool", "Sex or genotypes say that it is someone else's."),
    **{
        f"outlier_{name}": ("bool", f"The {text} lies beyond 1.5 interquartile ranges of the reference.")
        for name, text in _FENCED.items()
    },
    "is_outlier": ("bool", "Any of them."),
    "n_flags": ("int32", "Flags of this sample."),
}

_STATUSES = (
    "called; abstained: the conformal set is not the top class alone; out_of_distribution: unlike the samples that the "
    "model was trained on; missing_data: too few of its features, or values that its chain refuses; pending_batch: of "
    "a batch that the chain has no parameters for; not_eligible."
)
_WHO: Columns = {
    names.PERSON_ID: ("string?", "Person, from the sample sheet."),
    names.VISIT: ("string?", "Visit, from the sample sheet, as text."),
}
_PROBABILITIES: Columns = {
    "^p_.+$": ("double", "Calibrated probability of the class; missing where it can't be computed."),
}

# By kind of result; a job has the name of the last.
TABLES: dict[str, ResultTable] = {
    names.ASSOCIATIONS: ASSOCIATIONS,
    "qc": ResultTable(
        "One row per sample of a layer; columns whose input is absent are left out. Companion tables: principal "
        "(components before and after), explained, factors (share of the variance).",
        _QC,
        tuple(name for name in _QC if name not in _ALWAYS),
    ),
    "fractions": ResultTable(
        "One row per sample and one column per cell type of the reference table, between sample_id and residual.",
        {
            **_SAMPLE,
            "residual": ("double", "Root mean square of what the fractions leave of the sample's values."),
            "n_features": ("int64", "Reference features with a value."),
            "converged": ("bool", "The rounds of reweighting ended; true for the constrained method."),
        },
        patterns={"^(?!(sample_id|residual|n_features|converged)$).+$": ("double", "Fraction of the cell type.")},
    ),
    "surrogates-table": ResultTable(
        "One row per sample. Companion table: features (feature_id, p_surrogate, p_design).",
        _SAMPLE,
        patterns={"^SV[0-9]+$": ("double", "Surrogate variable.")},
    ),
    names.STRATA: ResultTable(
        "One row per sample, in the order of ids; membership columns stand before `ambiguous`. Companion tables: "
        "choice (criteria of each k), cdf (distribution of the consensus), labels (groups at each k), features, "
        "principal, heat (consensus of at most 400 samples), cross (agreement with sample columns), centroids (mean "
        "profiles of the groups), consensus (all pairs at the chosen k, up to 2,000 samples), visits (groups of "
        "persons with several samples). Of several assays: assays (what each finds alone), assay_support (which assay "
        "supports which group).",
        {
            **_SAMPLE,
            "stratum": (
                "string",
                "Group: C1, C2, ... by size, or as in the previous version. C1 alone: no groups.",
            ),
            "core": ("bool", "Algorithms and resamples agree on the sample's group."),
            "consensus": ("double", "Mean consensus with the other samples of the group, 0 to 1."),
            "silhouette": ("double", "Silhouette of the sample among the groups, -1 to 1; missing with one group."),
            "ambiguous": ("bool", "The sample lies between groups: read its memberships."),
            "n_assays": ("int64", "Of several assays: how many have the sample."),
        },
        ("n_assays",),
        patterns={"^membership_.+$": ("double", "Share of the group in the sample; they sum to 1.")},
    ),
    "models-table": ResultTable(
        "The panel of a model, a row a feature; weight columns stand before the means. The model itself is a bundle. "
        "Companion tables: predictions (what was said of every sample by a model that had not seen the person), folds, "
        "and what the model card shows.",
        {
            names.FEATURE_ID: ("string", "Feature of the values that the classifier takes."),
            "direction": ("string", "higher in CLASS or lower in CLASS: the class that is farthest from the mean."),
            "selection_frequency": ("double", "Share of the inner folds whose panel has the feature."),
            "outer_frequency": ("double", "Share of the outer folds whose final panel has the feature."),
        },
        patterns={
            "^weight_.+$": ("double", "Weight of the feature for the class, for a change of a standard deviation."),
            "^mean_.+$": ("double", "Mean of the class, in standard deviations from the mean of all."),
        },
    ),
    names.EXPLANATIONS: ResultTable(
        "One row per assay, feature, group and comparison. Companion tables: summary (features found), top (of "
        "smallest p), modules (scores between groups), module_genes (what matched), module_scores (each sample), "
        "clinical (tests of sample columns), clinical_groups, shares (what else explains the groups), stability, "
        "visits, agreement, cross.",
        {
            "assay": ("string", "Assay, or layer with its version."),
            names.FEATURE_ID: ("string", "Feature."),
            "group": ("string", "Group of the grouping."),
            "against": ("string", "healthy, or rest: all samples of the other groups."),
            "effect": ("double", "Difference of means, adjusted for the covariates, in units of the tested quantity."),
            "standard_error": ("double", "Standard error of the effect, from the moderated variance."),
            "statistic": ("double", "Moderated t."),
            "df": ("double", "Degrees of freedom of the statistic, prior ones included."),
            "p_value": ("double", "Two-sided p-value; of a descriptive feature it proves nothing."),
            "q_value": ("double", "Benjamini-Hochberg within assay, group and comparison."),
            "log_odds": ("double", "B: log-odds of differential signal, natural logarithm."),
            "mean": ("double", "Mean of the feature over the samples used, in units of the tested quantity."),
            "n_samples": ("int64", "Samples with a value."),
            "descriptive": ("bool", "The feature made the groups: its differences describe them, and prove nothing."),
        },
    ),
    names.CLASSES: ResultTable(
        "One row per sample, in the order of ids; the columns p_<class> stand before conformal_set. A sample's call "
        "depends on its values and the model alone, never on other samples or earlier calls. Companion table: scores "
        "(out-of-distribution score, missing features, why a sample has no answer).",
        {
            **_SAMPLE,
            **_WHO,
            names.DATE: ("string?", "Date of the sample, year-month-day, from the sample sheet."),
            "call": ("string?", "The class; missing unless the status is called."),
            "status": ("string", _STATUSES),
            "top_class": ("string?", "The most probable class, whatever the status."),
            "confidence": ("double", "Probability of the top class."),
            "conformal_set": (
                "string?",
                "Classes, joined by |, of which one is the true one with the coverage the model was made for; empty "
                "where none fits.",
            ),
            "model": ("string", "NAME@VERSION."),
            "run": ("string", "The run that computed the row."),
        },
        patterns=_PROBABILITIES,
    ),
    names.REPORTED: ResultTable(
        "One row per person, in the order of ids: the calls of all visits replayed in order with hysteresis.",
        {
            names.PERSON_ID: ("string", "Person; the sample's id where the sheet names none."),
            "reported_call": ("string?", "The class that is reported; missing where no sample was called."),
            "since_date": ("string?", "Date of the sample with which it began."),
            "since_run": ("string?", "The run that reported it first."),
        },
    ),
    names.CHANGES: ResultTable(
        "One row per sample whose call changed or is new, and per person whose report changed without; in the order of "
        "ids.",
        {
            names.SAMPLE_ID: (
                "string?",
                "Sample; missing for people who withdrew, or whose samples are all another's now.",
            ),
            **_WHO,
            "previous_sample_id": ("string?", "The sample of the previous call: itself, or the person's visit before."),
            "previous_call": ("string?", "Its class before."),
            "call": ("string?", "The class now; missing where it is not called."),
            "reported_before": ("string?", "What was reported of the person."),
            "reported_call": ("string?", "What is reported now."),
            "reason": (
                "string",
                "new_person, new_visit, new_data, new_model, threshold (same probabilities, other rules), withdrawn, "
                "rollback.",
            ),
            "previous_model": ("string?", "NAME@VERSION of the previous call."),
            "model": ("string?", "NAME@VERSION of the call."),
            "previous_confidence": ("double", "Probability of the top class before."),
            "confidence": ("double", "Probability of the top class now."),
            "run": ("string", "The run that published the change."),
        },
    ),
}
