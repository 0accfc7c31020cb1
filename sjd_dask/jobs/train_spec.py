"""The spec of `job: train`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sjd_dask.jobs.spec import JobSpec, Name

MODELS = ("multinomial", "random_forest", "gradient_boosting", "shrunken_centroid")


class PanelChoice(BaseModel):
    """How the few features are chosen that a model reads; done anew in every fold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["elastic_net", "stability", "all_relevant", "none"] = Field(
        "elastic_net",
        description="elastic_net: along the path of a penalised multinomial model. stability: chosen in most of many "
        "halves of the persons. all_relevant: better than shuffled copies, in the manner of Boruta. none: all that "
        "pass `prefilter`.",
    )
    size: Annotated[int, Field(ge=1, le=5000)] | Literal["auto"] = Field(
        50,
        description="Most features of the panel; it may be smaller. auto: the one of 25, 50, 100, 200 and 400 with "
        "the smallest loss in the inner folds; it takes several times as long.",
    )
    prefilter: int = Field(
        2000, ge=2, le=20_000, description="So many features of largest F between the classes are looked at closely."
    )


class FoldCounts(BaseModel):
    """Folds of the nested cross-validation; no person is in two of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outer: int = Field(5, ge=2, le=50, description="Folds that judge the whole procedure.")
    inner: int = Field(5, ge=2, le=50, description="Folds within each, for tuning, calibration and thresholds.")


class TrainSpec(JobSpec):
    """Train a classifier, judge it by nested cross-validation over persons, and publish it as one frozen bundle."""

    job: Literal["train"] = "train"
    assay: Name | None = Field(None, description="The assay to train on; this or `layer`.")
    layer: str | None = Field(
        None, description="A normalised layer, layers/NAME[@version]; its frozen chain becomes part of the model."
    )
    quantity: str | None = Field(
        None, description="For a beta assay: beta or m_value (decoded from the stored betas). Default: as stored."
    )
    labels: str = Field(description="strata/NAME[@version], or a sample column; samples without a label are left out.")
    person: str | None = Field(
        None,
        description="Sample column of the person: folds never split one. Default: person_id, where there is such a "
        "column; a sample without an entry is a person of its own.",
    )
    samples: str | None = Field(None, description="pandas query over the sample columns; the samples to use.")
    core: bool = Field(
        True,
        description="With labels from strata: only core samples are trained on. Metrics are of all samples either way.",
    )
    refit: bool = Field(
        True,
        description="In every outer fold normalisation and (with labels from strata) grouping are fitted again without "
        "the persons that the fold judges. false: both as they are, and the metrics say so. The panel is always "
        "chosen again.",
    )
    panel: PanelChoice = Field(default_factory=PanelChoice, description="How the features are chosen.")
    model: Literal["multinomial", "random_forest", "gradient_boosting", "shrunken_centroid"] = Field(
        "multinomial", description="multinomial: elastic-net regression, its penalty tuned within the fold."
    )
    folds: FoldCounts = Field(default_factory=FoldCounts, description="How many.")
    repeats: int = Field(1, ge=1, le=100, description="How often the outer folds are drawn anew.")
    calibration: Literal["sigmoid", "isotonic", "temperature", "none"] = Field(
        "sigmoid", description="How scores become probabilities, fitted on samples that the model hasn't seen."
    )
    coverage: float = Field(
        0.9, gt=0.5, lt=1, description="The conformal set of a new person holds the true class at least so often."
    )
    max_missing: float = Field(
        0.1, ge=0, lt=1, description="A sample that lacks more of the panel than this share gets no call."
    )
    abstain_rate: float = Field(
        0.05, gt=0, lt=0.5, description="Share of persons like those trained on that may be called out of distribution."
    )
    subgroups: list[str] = Field(
        default_factory=list, description="Sample columns whose groups get metrics of their own, such as sex."
    )
    seed: int = Field(1, ge=0, description="Names the folds and draws; the same seed gives the same model.")

    @classmethod
    def explain(cls, finding: Any) -> str | None:
        """What is wrong with a model, by its name."""
        if finding["loc"][:2] == ("panel", "size"):
            return f"`panel.size`: {finding['input']!r} is neither a whole number of 1 to 5000 nor `auto`"
        if finding["loc"][:1] == ("model",) and finding["type"] == "literal_error":
            return f"`model`: there is no {finding['input']!r}; there are: {', '.join(MODELS)}"
        return None

    @model_validator(mode="after")
    def _consistent(self) -> TrainSpec:
        if (self.assay is None) == (self.layer is None):
            raise ValueError("give exactly one of `assay` and `layer`")
        if self.layer is not None and self.quantity is not None:
            raise ValueError("a layer is read as it is: leave `quantity` out")
        if "core" in self.model_fields_set and not self.from_strata:
            raise ValueError("`core` belongs to labels from strata/NAME: a sample column knows no core")
        size = self.panel.size
        if self.panel.method == "none" and size == "auto":
            raise ValueError("`panel: size: auto` belongs to a method that ranks features: `method: none` takes all")
        if self.panel.method != "none" and size != "auto" and size > self.panel.prefilter:
            raise ValueError(
                f"`panel: size: {self.panel.size}` can't be chosen of the {self.panel.prefilter} features that "
                "`prefilter` leaves"
            )
        if len(set(self.subgroups)) < len(self.subgroups):
            raise ValueError("`subgroups` names a column twice")
        return self

    @property
    def from_strata(self) -> bool:
        """Whether labels are groups that were found."""
        return self.labels.startswith("strata/")
