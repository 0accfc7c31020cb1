"""The spec of `job: stratify`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sjd_dask.jobs.spec import Name
from sjd_dask.jobs.stratify_assays_spec import AssaysKeys
from sjd_dask.jobs.stratify_features_spec import FeatureChoice
from sjd_dask.stratify.recipe import Recipe

ALGORITHMS = ("hierarchical", "kmeans", "pam", "mixture")
Algorithm = Literal["hierarchical", "kmeans", "pam", "mixture"]
# Labels of resamples are one byte.
MOST_GROUPS = 50


class Resamples(BaseModel):
    """How often the cohort is drawn and grouped again, and how much of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int = Field(500, ge=2, le=100_000, description="How many resamples.")
    sample_fraction: float = Field(0.8, gt=0, le=1, description="Share of the samples in each.")
    feature_fraction: float = Field(1.0, gt=0, le=1, description="Share of the chosen features in each.")


class StratifySpec(AssaysKeys):
    """Find groups of samples by consensus over resamples and algorithms, and say whether there are any."""

    job: Literal["stratify"] = "stratify"
    assay: Name | None = Field(None, description="The assay to group by; this or `layer`.")
    layer: str | None = Field(None, description="A normalised layer, layers/NAME[@version], in place of an assay.")
    quantity: str | None = Field(
        None, description="For a beta assay: beta or m_value (decoded from the stored betas). Default: as stored."
    )
    features: FeatureChoice = Field(
        default_factory=lambda: FeatureChoice(top=1000),
        description="Which features make the groups. Default: the 1000 of largest median absolute deviation.",
    )
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = Field(
        default_factory=lambda: list(ALGORITHMS),
        description="Each groups every resample; the consensus is over all of them. kmeans and mixture are Euclidean.",
    )
    distance: Literal["pearson", "spearman", "euclidean"] = Field(
        "pearson", description="Of hierarchical and pam. pearson and spearman: 1 - correlation of two samples."
    )
    linkage: Literal["average", "complete", "ward"] = Field("average", description="Of hierarchical.")
    k: tuple[int, int] = Field(
        (1, 6), description="Fewest and most groups to try, both inclusive. k = 1 says that there are no groups."
    )
    choose_k: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="auto: by the criteria of the table `choice`, with the reason; 1 is always a candidate. Or "
        "the number of groups.",
    )
    resamples: Resamples = Field(default_factory=Resamples, description="How the cohort is drawn again and again.")
    consensus: Literal["auto", "exact", "landmarks"] = Field(
        "auto",
        description="exact: of all pairs of samples. landmarks: some samples make the groups and all are placed among "
        "them, at a cost linear in the samples. auto: exact up to 20,000 samples.",
    )
    landmarks: int = Field(2000, ge=20, le=20_000, description="How many samples make the groups of all.")
    seed: int = Field(1, ge=0, description="Names the draws; the same seed gives the same labels.")
    samples: str | None = Field(None, description="pandas query over the sample columns; the samples to group.")
    compare: list[str] = Field(
        default_factory=list,
        description="Sample columns of other labels: their agreement with the groups is in the table `cross`.",
    )
    previous: str | None = Field(
        None,
        description="strata/NAME@version: groups keep the names they have there, by the samples (persons) they share, "
        "or by their mean profiles where they share none.",
    )
    person: str | None = Field(
        None, description="Sample column of the person: `previous` is matched by persons, and its visits are counted."
    )
    visit: str | None = Field(
        None,
        description="With `person`: sample column that orders the samples of a person, for the table `visits`. "
        "Default: visit, where there is such a column.",
    )

    @classmethod
    def explain(cls, finding: Any) -> str | None:
        """What is wrong with an algorithm, by its name, and with a number of groups."""
        if finding["loc"][:1] == ("choose_k",):
            return f"`choose_k: {finding['input']}` is neither `auto` nor a number of groups, from 1"
        if finding["loc"][:1] == ("algorithms",) and finding["type"] == "literal_error":
            return f"`algorithms`: there is no {finding['input']!r}; there are: {', '.join(ALGORITHMS)}"
        return None

    @model_validator(mode="after")
    def _consistent(self) -> StratifySpec:
        if self.assays is None and (self.assay is None) == (self.layer is None):
            raise ValueError("give exactly one of `assay` and `layer`, or a list of `assays`")
        if self.visit is not None and self.person is None:
            raise ValueError(f"`visit: {self.visit}` orders the samples of a person: name its column by `person` too")
        if self.layer is not None and self.quantity is not None:
            raise ValueError("a layer is read as it is: leave `quantity` out")
        if len(set(self.algorithms)) < len(self.algorithms):
            raise ValueError("`algorithms` names one of them twice")
        low, high = self.k
        if not 1 <= low <= high or high < 2:
            raise ValueError(f"`k: [{low}, {high}]` must be [fewest, most] with 1 <= fewest <= most and most >= 2")
        if high > MOST_GROUPS:
            raise ValueError(f"`k: [{low}, {high}]`: at most {MOST_GROUPS} groups")
        if self.choose_k != "auto" and self.choose_k != 1 and not low <= self.choose_k <= high:
            raise ValueError(f"`choose_k: {self.choose_k}` is not within `k: [{low}, {high}]`")
        return self

    @property
    def tried(self) -> tuple[int, ...]:
        """The k > 1 to try."""
        return tuple(range(max(2, self.k[0]), self.k[1] + 1))

    @property
    def recipe(self) -> Recipe:
        """What the groups are made with; its algorithms are in an order of its own."""
        return Recipe(
            algorithms=tuple(self.algorithms),
            distance=self.distance,
            linkage=self.linkage,
            k=self.tried,
            resamples=self.resamples.n,
            sample_fraction=self.resamples.sample_fraction,
            feature_fraction=self.resamples.feature_fraction,
            seed=self.seed,
        )
