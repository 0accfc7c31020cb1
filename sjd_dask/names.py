"""Names of dimensions, variables and columns, said once.

The names are the field's own and part of what users script against: a change here is a change of the contract.
"""

from __future__ import annotations

from typing import Final

# Dimensions and coordinates of every matrix.
SAMPLES: Final = "samples"
FEATURES: Final = "features"
CONTRASTS: Final = "contrasts"
SAMPLE_ID: Final = "sample_id"
FEATURE_ID: Final = "feature_id"
CONTRAST: Final = "contrast"

# Sample columns with a meaning of their own.
PERSON_ID: Final = "person_id"
VISIT: Final = "visit"
DATE: Final = "date"

# Feature columns with a meaning of their own.
CHROMOSOME: Final = "chromosome"
POSITION: Final = "position"
GENE_SYMBOL: Final = "gene_symbol"

# What a matrix may hold.
COUNTS: Final = "counts"
EXPRESSION: Final = "expression"
BETA: Final = "beta"
M_VALUE: Final = "m_value"
CONCENTRATION: Final = "concentration"
PROPORTION: Final = "proportion"
DOSAGE: Final = "dosage"
QUANTITIES: Final = (COUNTS, EXPRESSION, BETA, M_VALUE, CONCENTRATION, PROPORTION, DOSAGE)

# Variables of the Dataset that per-feature tests return, dims (contrasts, features) or (features,).
FEATURE_EFFECT: Final = "feature_effect"
FEATURE_STANDARD_ERROR: Final = "feature_standard_error"
FEATURE_T_STATISTIC: Final = "feature_t_statistic"
FEATURE_DF: Final = "feature_degrees_of_freedom"
FEATURE_P_VALUE: Final = "feature_p_value"
FEATURE_Q_VALUE: Final = "feature_q_value"
FEATURE_LOG_ODDS: Final = "feature_log_odds"
FEATURE_MEAN: Final = "feature_mean"
FEATURE_SIGMA: Final = "feature_sigma"
FEATURE_N_SAMPLES: Final = "feature_n_samples"
GENOMIC_INFLATION: Final = "genomic_inflation"
FEATURE_F_STATISTIC: Final = "feature_f_statistic"
FEATURE_F_P_VALUE: Final = "feature_f_p_value"
FEATURE_F_Q_VALUE: Final = "feature_f_q_value"

# Columns of `associations/NAME`, in this order.
ASSOCIATION_COLUMNS: Final = (
    FEATURE_ID,
    CONTRAST,
    "effect",
    "standard_error",
    "statistic",
    "df",
    "p_value",
    "q_value",
    "log_odds",
    "mean",
    "sigma",
    "n_samples",
)
F_CONTRAST: Final = "F"

# What became of a sample that was to be classified, in the order tables and pages show them.
CALLED: Final = "called"
ABSTAINED: Final = "abstained"
OUT_OF_DISTRIBUTION: Final = "out_of_distribution"
MISSING_DATA: Final = "missing_data"
PENDING_BATCH: Final = "pending_batch"
NOT_ELIGIBLE: Final = "not_eligible"
CALL_STATUSES: Final = (CALLED, ABSTAINED, OUT_OF_DISTRIBUTION, MISSING_DATA, PENDING_BATCH, NOT_ELIGIBLE)
# Probability of a class is column `p_` and its name.
PROBABILITY: Final = "p_"

# Kinds of results.
ASSOCIATIONS: Final = "associations"
STRATA: Final = "strata"
EXPLANATIONS: Final = "explanations"
MODELS: Final = "models"
CLASSES: Final = "classes"
REPORTED: Final = "reported"
CHANGES: Final = "changes"
RESULT_KINDS: Final = (
    "associations",
    "layers",
    "qc",
    "fractions",
    "surrogates",
    "strata",
    "explanations",
    "models",
    "classes",
    "reported",
    "changes",
)
