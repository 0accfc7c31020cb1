"""What a trial design is asked for: a checked model of its spec. Unknown keys are errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.errors import SpecError, findings_text

DESIGNS = ("all_comers", "stratified", "enriched")
Share = Annotated[float, Field(ge=0, le=1)]
ByStratum = float | dict[str, float]
Text = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    """What every part of the spec has."""

    # YAML reads .nan and .inf as numbers, and no arithmetic of a trial has a use for them.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Stratum(Part):
    """A class of persons."""

    name: Text
    share: float = Field(gt=0, le=1, description="Share of those who are screened; the strata sum to 1.")


class Classifier(Part):
    """How the strata are called: rates, or predictive value and called share, or a whole confusion matrix."""

    target: list[Text] = Field(
        min_length=1, description="Strata that the treatment aims at, and that enrichment takes."
    )
    sensitivity: ByStratum | None = Field(None, description="Among those with a call; one number or by target stratum.")
    specificity: ByStratum | None = Field(None, description="Among those with a call; one number or by other stratum.")
    ppv: float | None = Field(None, gt=0, le=1, description="Share of target strata among those called target.")
    called: float | None = Field(None, gt=0, le=1, description="With ppv: share of all screened that is called target.")
    not_called: ByStratum = Field(0.0, description="Share on which the classifier abstains; one number or by stratum.")
    confusion: dict[str, dict[str, float]] | None = Field(
        None, description="Stratum -> call -> chance; what a row leaves of 1 isn't called. In place of the rates."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Classifier:
        rates = self.sensitivity is not None or self.specificity is not None
        predictive = self.ppv is not None or self.called is not None
        if rates + predictive + (self.confusion is not None) > 1:
            raise ValueError("give either sensitivity and specificity, or ppv and called, or confusion")
        if predictive and (self.ppv is None or self.called is None):
            raise ValueError("ppv and called belong together: give both")
        if self.confusion is not None and self.not_called != 0.0:
            raise ValueError("a confusion matrix says itself who isn't called: leave `not_called` out")
        return self


class Baseline(Part):
    """The score at entry of those who are enrolled."""

    mean: float
    sd: float = Field(gt=0)


class Drop(Part):
    """A responder by how far a continuous endpoint fell."""

    endpoint: Text = Field(description="Name of a continuous endpoint of this design.")
    at_least: float = Field(description="Drop, in points, from which a person is a responder.")


class _Endpoint(Part):
    name: Text
    week: float | None = Field(None, gt=0, description="Week of the visit; the placebo model needs it.")


class Continuous(_Endpoint):
    """Improvement of a score; larger is better."""

    kind: Literal["continuous"]
    sd: ByStratum = Field(description="Standard deviation within a stratum and arm, in points.")
    effect: ByStratum = Field(
        description="What treatment adds to the improvement. A number counts in the target strata alone (everywhere "
        "without a classifier); a mapping names every stratum."
    )
    control: ByStratum | None = Field(None, description="Mean improvement under control. Not with `placebo`.")
    placebo: Text | None = Field(None, description="Name of a placebo model (definitions/placebo.yaml).")
    baseline: Baseline | None = Field(None, description="Of the score; the placebo model needs it.")
    prognosis: dict[str, float] | None = Field(
        None, description="Points that a stratum improves more than `placebo` says, in both arms; names every stratum."
    )
    test: Literal["normal", "t"] = "t"
    ancova: bool = Field(False, description="The analysis has the baseline as covariate.")
    baseline_correlation: float | None = Field(
        None, gt=-1, lt=1, description="Of the endpoint with the baseline, within stratum and arm. Not with `placebo`, "
        "whose slope says it."
    )  # fmt: skip

    @model_validator(mode="after")
    def _consistent(self) -> Continuous:
        if self.placebo is not None:
            if self.week is None or self.baseline is None:
                raise ValueError("`placebo` needs `week` and `baseline: {mean, sd}`")
            if self.control is not None or self.baseline_correlation is not None:
                raise ValueError("`placebo` says the mean under control and its tie to the baseline: leave `control` "
                                 "and `baseline_correlation` out")  # fmt: skip
            effects = self.effect.values() if isinstance(self.effect, dict) else [self.effect]
            if any(one < 0 for one in effects):
                raise ValueError("with `placebo` the endpoint is a drop, where more is better: write the additional "
                                 "drop under treatment as a number above 0")  # fmt: skip
        elif self.prognosis is not None:
            raise ValueError("`prognosis` is said against a placebo model; without one give `control` by stratum")
        if self.ancova and self.placebo is None and self.baseline_correlation is None:
            raise ValueError("`ancova` needs `baseline_correlation`, or `placebo`")
        return self


class Binary(_Endpoint):
    """A share of responders."""

    kind: Literal["binary"]
    control: ByStratum | None = Field(None, description="Share of responders under control.")
    treatment: ByStratum | None = Field(
        None,
        description="Share under treatment. A number counts in the target strata alone, elsewhere it is that of "
        "control; a mapping names every stratum.",
    )
    drop: Drop | None = Field(None, description="In place of the shares: responders by a continuous endpoint's drop.")
    method: Literal["unpooled", "pooled"] = "unpooled"
    missing: Literal["completers", "non_responder"] = Field(
        "completers", description="Persons lost: left out, or counted as non-responders."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Binary:
        shares = self.control is not None or self.treatment is not None
        if shares == (self.drop is not None):
            raise ValueError("give either `control` and `treatment`, or `drop: {endpoint, at_least}`")
        if shares and (self.control is None or self.treatment is None):
            raise ValueError("`control` and `treatment` belong together: give both")
        for name in ("control", "treatment"):
            given = getattr(self, name)
            for share in given.values() if isinstance(given, dict) else [] if given is None else [given]:
                if not 0 < share < 1:
                    raise ValueError(f"`{name}` is {share:g}; a share of responders is above 0 and below 1")
        return self


Endpoint = Annotated[Continuous | Binary, Field(discriminator="kind")]


class Hypothesis(Part):
    """An endpoint in those who are enrolled, or in those called target."""

    endpoint: Text
    population: Literal["all", "target"] = "all"
    weight: float | None = Field(None, gt=0, description="bonferroni and holm: share of alpha, before scaling to 1.")


class Hierarchy(Part):
    """How several hypotheses share one alpha."""

    method: Literal["fixed_sequence", "hochberg", "holm", "bonferroni"] | None = None
    hypotheses: list[Hypothesis] = Field(min_length=1)

    @model_validator(mode="after")
    def _weights(self) -> Hierarchy:
        if any(one.weight is not None for one in self.hypotheses):
            if self.method not in ("bonferroni", "holm"):
                raise ValueError("weights belong to `method: bonferroni` and `method: holm`")
            if any(one.weight is None for one in self.hypotheses):
                raise ValueError("give each hypothesis a weight, or none")
        asked = [(one.endpoint, one.population) for one in self.hypotheses]
        if len(set(asked)) < len(asked):
            raise ValueError("a hypothesis stands twice in the hierarchy")
        return self


class Arm(Part):
    """An active arm."""

    name: Text
    effect: float | dict[str, float] = Field(
        1.0, description="Part of the endpoints' effect that this arm has: one number, or endpoint -> number."
    )


class Arms(Part):
    """Several active arms, each compared with the same control."""

    active: list[Arm] = Field(min_length=2, description="For fixed_sequence in the order in which they are tested.")
    rule: Literal["bonferroni", "dunnett", "fixed_sequence"] = Field(
        description="How the comparisons share alpha: each at alpha / arms; at the level that the shared control "
        "leaves; or in order, each at the whole alpha until the first that isn't rejected."
    )

    @model_validator(mode="after")
    def _names(self) -> Arms:
        if len({one.name for one in self.active}) < len(self.active):
            raise ValueError("two of the arms have the same name")
        return self


class Simulate(Part):
    """Trials to draw."""

    trials: int | None = Field(None, ge=100, le=10_000_000)
    seed: int | None = Field(None, ge=0, lt=2**63)


class DesignSpec(Part):
    """Sizes and power of a trial of one or several active arms and a control."""

    endpoints: list[Endpoint] = Field(min_length=1, description="The first one sets the size of the trial.")
    strata: list[Stratum] | None = Field(None, description="Default: one stratum of everyone.")
    classifier: Classifier | None = Field(None, description="Without it, one design of all comers.")
    designs: list[Literal["all_comers", "stratified", "enriched"]] | None = Field(
        None, min_length=1, description="Default: all three with a classifier, else all_comers."
    )
    alpha: float | None = Field(None, gt=0, lt=1)
    power: float | None = Field(None, gt=0, lt=1)
    sided: Literal[1, 2] | None = None
    allocation: tuple[Annotated[int, Field(ge=1, le=20)], Annotated[int, Field(ge=1, le=20)]] | None = Field(
        None, description="Treatment (each active arm) to control, whole numbers."
    )
    arms: Arms | None = Field(None, description="Several active arms; without it, one.")
    dropout: float | None = Field(None, ge=0, lt=1, description="Share lost before the outcome.")
    screen_failure: float | None = Field(
        None, ge=0, lt=1, description="Share of the screened who fail for a reason other than their class."
    )
    n: int | None = Field(None, ge=8, description="Persons enrolled: the power of this number, in every design.")
    stratified_for: Literal["all", "target", "interaction"] = Field(
        "all", description="The comparison that the size of the stratified design is for."
    )
    correlation: float | dict[str, dict[str, float]] = Field(
        0.0,
        description="Between endpoints, within stratum and arm: one number for every pair, or endpoint -> endpoint.",
    )
    hierarchy: Hierarchy | None = Field(None, description="Default with several endpoints: fixed sequence as listed.")
    simulate: Simulate | Literal[False] | None = Field(None, description="false: formulas alone.")

    @model_validator(mode="after")
    def _consistent(self) -> DesignSpec:
        for what, found in (("endpoints", [one.name for one in self.endpoints]),
                            ("strata", [one.name for one in self.strata or []])):  # fmt: skip
            if len(set(found)) < len(found):
                raise ValueError(f"two of the {what} have the same name")
        if self.arms is not None and self.n is not None:
            raise ValueError("`n` goes with one active arm: with `arms` leave it out, and the power says how many")
        if len(set(self.designs or [])) < len(self.designs or []):
            raise ValueError("`designs` names one twice")
        if self.classifier is not None and self.strata is None:
            raise ValueError("a classifier calls strata: give `strata: [{name, share}, ...]`")
        if self.classifier is None and any(one in ("stratified", "enriched") for one in self.designs or []):
            raise ValueError("stratified and enriched designs need a `classifier`")
        return self


def parse_design(spec: DesignSpec | Mapping[str, Any]) -> DesignSpec:
    """Plain data as a checked spec.

    Raises
    ------
    SpecError
        Each finding with its key; for an unknown key the nearest known one.
    """
    if isinstance(spec, DesignSpec):
        return spec
    try:
        return DesignSpec.model_validate(dict(spec))
    except ValidationError as error:
        raise SpecError(f"design: {findings_text(error, DesignSpec)}") from None


def with_defaults(spec: DesignSpec, definitions: Overrides | None = None) -> DesignSpec:
    """The spec with every silent key filled from definitions/trial_defaults.yaml.

    References
    ----------
    K: definitions/trial_defaults.yaml.
    """
    shipped = load_definition("trial_defaults", definitions)
    filled: dict[str, Any] = {
        key: shipped["design"][key]["value"]
        for key in ("alpha", "power", "sided", "allocation", "dropout", "screen_failure")
        if getattr(spec, key) is None
    }
    if spec.designs is None:
        filled["designs"] = ["all_comers"] if spec.classifier is None else list(DESIGNS)
    if spec.simulate is not False:
        given = spec.simulate or Simulate()
        filled["simulate"] = {
            key: shipped["simulation"][key]["value"] if getattr(given, key) is None else getattr(given, key)
            for key in ("trials", "seed")
        }
    hierarchy = spec.hierarchy
    if hierarchy is None and len(spec.endpoints) > 1:
        hierarchy = Hierarchy(hypotheses=[Hypothesis(endpoint=one.name) for one in spec.endpoints])
    if hierarchy is not None:
        method = hierarchy.method or shipped["design"]["hierarchy"]["value"]
        filled["hierarchy"] = hierarchy.model_copy(update={"method": method})
    # Validated again: a user's file of defaults can hold anything.
    return parse_design(spec.model_dump(exclude_none=True) | {
        key: value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value
        for key, value in filled.items()
    })  # fmt: skip
