"""What a result's ``meta`` tells its report. Every key is optional; what is absent is left out of the page."""

from __future__ import annotations

from typing import Any, TypedDict


class Reason(TypedDict):
    """How many samples or features were left out, and why."""

    reason: str
    count: int


class Selected(TypedDict, total=False):
    """Samples or features: on offer, used, and left out."""

    available: int
    used: int  # samples
    tested: int  # features
    filter: str
    dropped: list[Reason]
    with_missing: int


class Prior(TypedDict, total=False):
    """The prior of the moderated variances; [min, median, max] where it differs between features; df may be "inf"."""

    df: float | str | list[float]
    s2: float | list[float]
    robust_outliers: int


class Block(TypedDict, total=False):
    """Repeated measures."""

    column: str
    n_blocks: int
    correlation: float


class Encoding(TypedDict, total=False):
    """How the values lie on disk."""

    stored_quantity: str
    dtype: str
    scale_factor: float
    max_error: float


# `lambda` is a keyword, hence the functional form.
Companion = TypedDict(
    "Companion",
    {
        "label": str,
        "reference": str,
        "design": str,
        "contrast": str,
        "lambda": float,
        "n_features": int,
        "n_q05": int,
        "n_samples": int,
    },
    total=False,
)


class CohortName(TypedDict, total=False):
    """The cohort and the view of it that was read."""

    name: str
    path: str
    snapshot: int


class Run(TypedDict, total=False):
    """Where the result comes from; times are ISO 8601."""

    id: str
    fingerprint: str
    created: str
    finished: str
    seconds: float
    cluster: str
    package_version: str
    python: str
    libraries: dict[str, str]


class AssociationMeta(TypedDict, total=False):
    """``meta`` of ``associations/NAME``.

    ``contrasts`` maps the name of a contrast to weights of coefficients, in the order of the page. ``lambdas`` holds
    the inflation of each contrast where it was computed already. ``companions`` are other runs to compare with.
    """

    reference: str
    title: str
    job: str
    spec: dict[str, Any]
    test: str
    design: str
    coefficients: list[str]
    contrasts: dict[str, dict[str, float]]
    moderation: str
    trend: bool
    robust: bool
    na_contrasts: str
    precision: str
    prior: Prior
    block: Block
    cohort: CohortName
    assay: str
    quantity: str
    encoding: Encoding
    samples: Selected
    groups: dict[str, dict[str, int]]
    features: Selected
    lambdas: dict[str, float]
    effect_label: str
    warnings: list[str]
    companions: list[Companion]
    run: Run


class Step(TypedDict, total=False):
    """One method of a chain with its options."""

    method: str
    version: int
    options: dict[str, Any]
    note: str


class ReferenceSamples(TypedDict, total=False):
    """The samples that the parameters were fitted on."""

    count: int
    filter: str
    hash: str


class LayerFeatures(TypedDict, total=False):
    """Features of the source and of the layer."""

    before: int
    after: int
    dropped: list[Reason]


class LayerMeta(TypedDict, total=False):
    """``meta`` of ``layers/NAME`` and ``qc/NAME``.

    ``parameters`` names the version whose frozen parameters were taken; it is absent where they were fitted.
    ``factors`` are the sample columns whose share of the variance is told, ``colour_by`` the first to colour components
    by (else the batch). ``qc`` names the quality tables of a layer. ``masks`` are the limits of companion assays.
    """

    reference: str
    title: str
    job: str
    spec: dict[str, Any]
    layer: str
    layer_version: int
    assay: str
    cohort: CohortName
    steps: list[Step]
    scale_before: str
    scale_after: str
    masks: dict[str, float]
    parameters: str
    parameters_hash: str
    reference_samples: ReferenceSamples
    samples: Selected
    features: LayerFeatures
    encoding: Encoding
    batch_column: str
    sex_column: str
    factors: list[str]
    colour_by: str
    warnings: list[str]
    qc: str
    run: Run
