"""Job specs: YAML read into checked models. Unknown keys are errors; relative paths start at the spec's file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sjd_dask.errors import SpecError, findings_text
from sjd_dask.jobs.yaml_text import load_yaml

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class JobSpec(BaseModel):
    """What every job has."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    cohort: str = Field(description="Folder or URL that holds cohort.toml, relative to this file.")
    output: Name = Field(description="Name of the result; a new version is published under it.")

    @classmethod
    def explain(cls, finding: Any) -> str | None:
        """A sentence of this job's own for one of pydantic's findings, or None."""
        return None


class AssociateSpec(JobSpec):
    """Test every feature of an assay against a design."""

    job: Literal["associate"] = "associate"
    assay: Name | None = Field(None, description="The assay to test; this or `layer`.")
    layer: str | None = Field(None, description="A normalised layer, layers/NAME, in place of assay and quantity.")
    quantity: str | None = Field(
        None,
        description="For a beta assay: beta or m_value (decoded from the stored betas). Default: as stored.",
    )
    design: str = Field(description="Formula over sample columns (formulaic), such as `~ disease + age + sex`.")
    contrasts: list[str] | dict[str, dict[str, float]] | None = Field(
        None,
        description="Coefficient names, or {name: {coefficient: weight}}. Default: all but the intercept.",
    )
    test: Literal["linear", "wilcoxon", "kruskal", "welch"] = Field(
        "linear",
        description="linear: linear model per feature. The others compare the groups of the design's single factor.",
    )
    moderation: Literal["none", "ebayes"] = Field("ebayes", description="Empirical Bayes moderation of the variances.")
    trend: bool = Field(False, description="The prior variance follows the mean of the feature.")
    robust: bool = Field(False, description="The prior is protected against features of outlying variance.")
    block: str | None = Field(
        None, description="Sample column of repeated measures: a common within-block correlation is estimated."
    )
    block_correlation: float | None = Field(
        None, gt=-1, lt=1, description="Use this within-block correlation in place of estimating it."
    )
    exact: Literal["auto"] | bool = Field(
        "auto",
        description="test: wilcoxon. auto: exact p for groups under 50 without ties (R's rule); false: normal.",
    )
    continuity: bool = Field(True, description="test: wilcoxon. Continuity correction of the normal approximation.")
    correlation_method: Literal["limma", "reml"] = Field(
        "limma",
        description="With `block`. limma: duplicateCorrelation's estimate, as R gives it. reml: the converged maximum "
        "of the restricted likelihood, in closed form; much faster with missing values or thousands of blocks.",
    )
    na_contrasts: Literal["exact", "limma"] = Field(
        "exact",
        description="Contrasts under missing values: exact per feature, or limma's contrasts.fit approximation.",
    )
    precision: Literal["double", "single"] = Field(
        "double", description="double: float64 products. single: float32 products with float64 sums, for speed."
    )
    weights: Literal["auto", "none", "voom", "voom_quality", "array"] = Field(
        "auto",
        description="test: linear. Weights of observations. voom: from the mean-variance trend of log counts, for an "
        "assay of counts or a layer whose last step is voom. array: one weight a sample, by how far it lies from the "
        "model. voom_quality: the product of both. auto: voom for a layer whose last step is voom, else none.",
    )
    span: float = Field(
        0.5, gt=0, le=1, description="With voom weights: share of the features in each local line of the trend."
    )
    array_method: Literal["auto", "genebygene", "reml"] = Field(
        "auto",
        description="With array and voom_quality. genebygene: one pass in the order of the features, serial. reml: "
        "the restricted likelihood of all features, on all workers. auto: limma's choice, which is reml for `array` "
        "without missing values and genebygene otherwise.",
    )
    samples: str | None = Field(None, description="pandas query over the sample columns; the samples to use.")
    partition_features: int | None = Field(
        None,
        ge=1,
        description="Features in a partition; chosen from the layout when absent. Results don't depend on it.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> AssociateSpec:
        if (self.assay is None) == (self.layer is None):
            raise ValueError("give exactly one of `assay` and `layer`")
        if self.test != "linear":
            set_keys = [k for k in ("contrasts", "block", "block_correlation") if getattr(self, k) is not None]
            set_keys += [k for k in ("trend", "robust") if getattr(self, k)]
            set_keys += ["weights"] if self.weights not in ("auto", "none") else []
            if set_keys:
                raise ValueError(f"{', '.join(set_keys)} belong(s) to `test: linear`, not to `test: {self.test}`")
        if self.test != "wilcoxon" and (self.exact != "auto" or not self.continuity):
            raise ValueError("`exact` and `continuity` belong to `test: wilcoxon`")
        if self.weights not in ("auto", "none"):
            if self.block is not None:
                raise ValueError(
                    f"`weights: {self.weights}` and `block` don't go together in this version: leave one of them out"
                )
            if self.precision == "single":
                raise ValueError(f"`weights: {self.weights}` needs `precision: double`")
        if self.span != 0.5 and self.weights in ("none", "array"):
            raise ValueError("`span` belongs to `weights: voom` and `weights: voom_quality`")
        if self.array_method != "auto" and self.weights not in ("array", "voom_quality"):
            raise ValueError("`array_method` belongs to `weights: array` and `weights: voom_quality`")
        if self.block_correlation is not None and self.block is None:
            raise ValueError("`block_correlation` needs `block`, the sample column of repeated measures")
        if self.moderation == "none" and (self.trend or self.robust):
            raise ValueError("`trend` and `robust` belong to `moderation: ebayes`")
        return self


# Imported when asked for: the methods of a job bring their kernels.
JOBS: dict[str, str] = {
    "normalise": "sjd_dask.jobs.normalise_spec:NormaliseSpec",
    "associate": "sjd_dask.jobs.spec:AssociateSpec",
    "deconvolve": "sjd_dask.jobs.cells_spec:DeconvolveSpec",
    "surrogates": "sjd_dask.jobs.cells_spec:SurrogatesSpec",
    "stratify": "sjd_dask.jobs.stratify_spec:StratifySpec",
    "explain": "sjd_dask.jobs.explain_spec:ExplainSpec",
    "train": "sjd_dask.jobs.train_spec:TrainSpec",
    "classify": "sjd_dask.jobs.classify_spec:ClassifySpec",
    "nightly": "sjd_dask.jobs.nightly_spec:NightlySpec",
}


def spec_model(job: str) -> type[JobSpec]:
    """The checked model of a job's spec."""
    module, _, name = JOBS[job].partition(":")
    model: type[JobSpec] = getattr(importlib.import_module(module), name)
    return model


def read_spec(path: str | Path, overrides: list[str] | None = None) -> tuple[JobSpec, Path]:
    """Read a job spec; give the checked model and the folder its relative paths start from.

    Parameters
    ----------
    path : str or Path
        The YAML file.
    overrides : list of str, optional
        ``key=value`` texts from ``--set``; the value is YAML; dots reach into nested keys.

    Raises
    ------
    SpecError
        If the file can't be read or parsed, a key is unknown, or a value is refused. The message names the key.
    """
    raw = read_yaml(path, overrides, "such as `job: associate`")
    return parse_spec(raw, str(path)), Path(path).resolve().parent


def read_yaml(path: str | Path, overrides: list[str] | None = None, hint: str = "") -> dict[str, Any]:
    """The keys of a YAML file, with those of ``--set`` in place. Errors as :func:`read_spec`'s."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"there is no spec file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the spec file {file} can't be read: {error}") from error
    try:
        raw = load_yaml(text, _OnceLoader)
    except yaml.YAMLError as error:
        raise SpecError(f"the spec file {file} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise SpecError(f"the spec file {file} must hold keys and values, {hint}".rstrip(", "))
    for override in overrides or []:
        _override(raw, override)
    return raw


def parse_spec(raw: dict[str, Any], where: str) -> JobSpec:
    """Check plain data as a job spec. See :func:`read_spec`."""
    # YAML reads a bare `null:` as a missing key; `surrogates` has a key of that name.
    raw = {"null" if key is None else key: value for key, value in raw.items()}
    job = raw.get("job")
    if job == "trial":
        raise SpecError(f"{where} is the protocol of a trial: run it with `sjd trial`")
    if job not in JOBS:
        known = ", ".join(JOBS)
        raise SpecError(f"{where}: `job` is {job!r}; the jobs of this version are: {known}")
    model = spec_model(job)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise SpecError(f"{where}: {findings_text(error, model, model.explain)}") from None


def resolve_path(text: str, base: Path) -> str:
    """A path of a spec as an absolute path; URLs stay as they are."""
    if "://" in text:
        return text
    path = Path(text).expanduser()
    return str(path if path.is_absolute() else (base / path).resolve())


class _OnceLoader(yaml.SafeLoader):
    """YAML in which a key stands once: of two `exclude:` the first would go unseen."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else []:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key `{key.value}` stands here a second time; join the two", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _override(raw: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise SpecError(f"--set {override!r}: write it as key=value")
    try:
        parsed = load_yaml(value)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {override!r}: the value is not valid YAML: {error}") from error
    *parents, last = key.split(".")
    target = raw
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise SpecError(f"--set {override!r}: {parent!r} does not hold keys of its own")
    target[last] = parsed
