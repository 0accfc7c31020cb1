"""The specs of `job: deconvolve` and `job: surrogates`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sjd_dask.jobs.spec import JobSpec, Name

_ASSAY = "The assay to read; this or `layer`."
_LAYER = "A normalised layer, layers/NAME, in place of an assay."
_SAMPLES = "pandas query over the sample columns; the samples to use."


class DeconvolveSpec(JobSpec):
    """Estimate the cell fractions of every sample from a reference table, and add them to the sample columns."""

    job: Literal["deconvolve"] = "deconvolve"
    assay: Name | None = Field(None, description=_ASSAY)
    layer: str | None = Field(None, description=_LAYER)
    reference: str = Field(
        description="Table of profiles (.tsv, .csv, either .gz, .parquet): feature ids in the first column, one column "
        "a cell type, in the units of the assay. Relative to this file."
    )
    method: Literal["constrained", "robust"] = Field(
        "constrained",
        description="constrained: least squares with no negative fraction (Houseman 2012). robust: Huber regression, "
        "negative coefficients to 0, scaled to sum 1 (EpiDISH's RPC).",
    )
    total: Literal["at_most_one", "one", "free"] = Field(
        "at_most_one", description="method: constrained. What a sample's fractions sum to."
    )
    max_iterations: int = Field(50, ge=1, description="method: robust. Most rounds of reweighting.")
    min_features: int | None = Field(
        None, ge=1, description="Fewest reference features that each sample must have; default 3 for each cell type."
    )
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        "cell_", description="The sample columns are called prefix + cell type."
    )
    samples: str | None = Field(None, description=_SAMPLES)

    @model_validator(mode="after")
    def _consistent(self) -> DeconvolveSpec:
        if (self.assay is None) == (self.layer is None):
            raise ValueError("give exactly one of `assay` and `layer`")
        if self.method == "robust" and self.total != "at_most_one":
            raise ValueError("`total` belongs to `method: constrained`; robust fractions sum to 1")
        if self.method == "constrained" and self.max_iterations != 50:
            raise ValueError("`max_iterations` belongs to `method: robust`")
        return self


class SurrogatesSpec(JobSpec):
    """Find surrogate variables of a design, and add them to the sample columns."""

    job: Literal["surrogates"] = "surrogates"
    assay: Name | None = Field(None, description=_ASSAY)
    layer: str | None = Field(None, description=_LAYER)
    quantity: str | None = Field(
        None,
        description="For a beta assay: beta or m_value (decoded from the stored betas). Default: as stored. Of counts, "
        "log(count + 1) is taken.",
    )
    design: str = Field(description="Formula with the terms of interest and known covariates, `~ disease + age`.")
    null: str = Field("~ 1", description="The same without the terms of interest, such as `~ age`.")
    n: Annotated[int, Field(ge=0)] | Literal["leek", "be"] = Field(
        "leek", description="How many, or the rule that estimates it: leek (asymptotic) or be (by permutation)."
    )
    method: Literal["irw", "two_step"] = Field(
        "irw", description="irw: iteratively reweighted, sva's default. two_step: by features of each residual axis."
    )
    n_iterations: int = Field(5, ge=1, description="method: irw. Rounds of reweighting.")
    rounds: int = Field(20, ge=1, description="n: be. Permutations.")
    seed: int = Field(0, ge=0, description="n: be. Names the permutations.")
    samples: str | None = Field(None, description=_SAMPLES)

    @model_validator(mode="after")
    def _consistent(self) -> SurrogatesSpec:
        if (self.assay is None) == (self.layer is None):
            raise ValueError("give exactly one of `assay` and `layer`")
        if self.layer is not None and self.quantity is not None:
            raise ValueError("a layer is read as it is: leave `quantity` out")
        return self
