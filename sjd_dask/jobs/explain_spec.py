"""The spec of `job: explain`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sjd_dask.jobs.spec import JobSpec, Name

_FRACTIONS = re.compile(r"fractions/[^/@]+(@v?[0-9]+)?")


class ExplainedAssay(BaseModel):
    """An assay or a layer whose features are compared between the groups."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    assay: Name | None = Field(None, description="An assay; this or `layer`.")
    layer: str | None = Field(None, description="A normalised layer, layers/NAME[@version].")
    quantity: str | None = Field(None, description="For a beta assay: beta or m_value. Default: as stored.")

    @model_validator(mode="after")
    def _one(self) -> ExplainedAssay:
        if (self.assay is None) == (self.layer is None):
            raise ValueError("give exactly one of `assay` and `layer`")
        if self.layer is not None and self.quantity is not None:
            raise ValueError("a layer is read as it is: leave `quantity` out")
        return self


class ExplainSpec(JobSpec):
    """Say what the groups of a grouping are: features, modules, clinic, and what they may be instead."""

    job: Literal["explain"] = "explain"
    strata: str = Field(description="The grouping: strata/NAME[@version].")
    assays: list[ExplainedAssay] | None = Field(
        None,
        description="Assays and layers to compare the groups in. Default: that of the grouping, every other layer, and "
        "every assay without counts that no layer is made of.",
    )
    assay: Name | None = Field(None, description="One assay, in place of `assays`.")
    layer: str | None = Field(None, description="One layer, layers/NAME[@version], in place of `assays`.")
    quantity: str | None = Field(None, description="With `assay`: for a beta assay, beta or m_value.")
    healthy: str | None = Field(
        None,
        description="pandas query over the sample columns: the healthy samples. Groups are compared with them, and "
        "module scores are in their standard deviations. A sample of theirs that is in a group counts as healthy.",
    )
    covariates: str | None = Field(
        None, description="Formula of sample columns to adjust the comparisons for, such as `~ age + sex`."
    )
    modules: str | None = Field(
        None,
        description="GMT file of gene sets (name, description, members by tabs): gene symbols or feature ids. Relative "
        "to this file. Short interferon lists are built in.",
    )
    clinical: list[str] = Field(
        default_factory=list, description="Sample columns to compare between groups, each by the test it needs."
    )
    composition: list[str] | str = Field(
        default_factory=list,
        description="Cell fractions: sample columns, or fractions/NAME. How far they alone explain the groups is said.",
    )
    batch: list[str] | str = Field(default_factory=list, description="Sample columns of the laboratory.")
    sex: str | None = Field(None, description="Sample column of sex.")
    drugs: list[str] = Field(default_factory=list, description="Sample columns of treatment.")
    compare: list[str] = Field(
        default_factory=list,
        description="Other labellings, sample columns or strata/NAME[@version], to count agreement with.",
    )
    person: str | None = Field(
        None,
        description="Sample column of the person. Comparisons account for persons of several samples, and the groups' "
        "stability over them is counted.",
    )
    visit: str | None = Field(None, description="With `person`: sample column that orders a person's samples.")
    specimen: str | None = Field(
        None, description="Sample column that technical replicates share: the samples measured from one specimen."
    )
    permutations: int = Field(99, ge=19, le=100_000, description="Draws of chance for the shares explained.")
    seed: int = Field(1, ge=0, description="Names the draws.")

    @field_validator("composition")
    @classmethod
    def _fractions(cls, value: list[str] | str) -> list[str] | str:
        if isinstance(value, str) and not _FRACTIONS.fullmatch(value):
            raise ValueError("a list of sample columns, or fractions/NAME")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ExplainSpec:
        given = [key for key in ("assays", "assay", "layer") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(f'`{key}`' for key in given)} say the same: keep one of them")
        if self.quantity is not None and self.assay is None:
            raise ValueError("`quantity` belongs to `assay`; in `assays` each has its own")
        if self.visit is not None and self.person is None:
            raise ValueError("`visit` orders the samples of a person: give `person` too")
        if self.assays is not None and not self.assays:
            raise ValueError("`assays` is empty: leave it out for all of them")
        return self

    @property
    def batches(self) -> list[str]:
        """Columns of the laboratory."""
        return [self.batch] if isinstance(self.batch, str) else list(self.batch)

    @property
    def asked(self) -> list[ExplainedAssay] | None:
        """What the spec names; None for all."""
        if self.assays is not None:
            return list(self.assays)
        if self.assay is not None or self.layer is not None:
            return [ExplainedAssay(assay=self.assay, layer=self.layer, quantity=self.quantity)]
        return None
