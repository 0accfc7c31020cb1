"""The keys of `job: stratify` that make groups of several assays."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sjd_dask.jobs.spec import JobSpec, Name
from sjd_dask.jobs.stratify_features_spec import FeatureChoice


class AssayInput(BaseModel):
    """One of several assays that make the groups together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    assay: Name | None = Field(None, description="The assay; this or `layer`.")
    layer: str | None = Field(None, description="A normalised layer, layers/NAME[@version], in place of an assay.")
    quantity: str | None = Field(
        None, description="For a beta assay: beta or m_value (decoded from the stored betas). Default: as stored."
    )
    features: FeatureChoice | None = Field(
        None,
        description="Which of its features make the groups. Default: the 1000 of largest median absolute deviation, "
        "or all where there are fewer.",
    )
    samples: str | None = Field(
        None,
        description="pandas query over the sample columns; the samples of this assay to use. Others are taken as not "
        "measured by it.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> AssayInput:
        if (self.assay is None) == (self.layer is None):
            raise ValueError("give exactly one of `assay` and `layer`")
        if self.layer is not None and self.quantity is not None:
            raise ValueError("a layer is read as it is: leave `quantity` out")
        return self

    @property
    def name(self) -> str:
        """As tables and pages call it."""
        return self.assay or str(self.layer).removeprefix("layers/").split("@")[0]


class FusionOptions(BaseModel):
    """How similarity networks are made and fused (Wang et al. 2014)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    neighbours: int = Field(20, ge=2, le=1000, description="Nearest samples that make the local network of a sample.")
    width: float = Field(0.5, gt=0, le=10, description="Width of the similarity kernel, of the local mean distance.")
    iterations: int = Field(20, ge=1, le=1000, description="Exchanges between the networks of the assays.")


class AssaysKeys(JobSpec):
    """What a spec has for several assays."""

    assays: Annotated[list[AssayInput], Field(min_length=2)] | None = Field(
        None,
        description="Several assays in place of one: a list of {assay | layer, quantity, features, samples}. A sample "
        "may be missing in some of them.",
    )
    integration: Literal["consensus", "snf"] | None = Field(
        None,
        description="With `assays`. consensus (default): every assay is resampled and grouped by itself, and the "
        "consensus of a pair of samples is over the assays that have both. snf: similarity network fusion of the "
        "assays in every resample, grouped by spectral clustering.",
    )
    require: int | None = Field(
        None, ge=1, description="With `assays`: fewest of them that a sample must be in. Default 1."
    )
    snf: FusionOptions | None = Field(None, description="With `integration: snf`: the networks.")

    @model_validator(mode="after")
    def _assays_consistent(self) -> AssaysKeys:
        if self.assays is None:
            given = [key for key in ("integration", "require", "snf") if getattr(self, key) is not None]
            if given:
                raise ValueError(f"{', '.join(f'`{key}`' for key in given)} belong(s) to a list of `assays`")
            return self
        own = [key for key in ("assay", "layer", "quantity") if getattr(self, key, None) is not None]
        own += [key for key in ("features",) if key in self.model_fields_set]
        if own:
            raise ValueError(
                f"{', '.join(f'`{key}`' for key in own)} and `assays` don't go together: each of the assays has its own"
            )
        names = [one.name for one in self.assays]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"`assays` names {', '.join(twice)} twice")
        if self.require is not None and self.require > len(self.assays):
            raise ValueError(f"`require: {self.require}`: there are only {len(self.assays)} assays")
        if self.integration == "snf":
            for key in ("algorithms", "linkage"):
                if key in self.model_fields_set:
                    raise ValueError(f"`{key}` belongs to `integration: consensus`: a fused network is cut spectrally")
        elif self.snf is not None:
            raise ValueError("`snf` belongs to `integration: snf`")
        return self
