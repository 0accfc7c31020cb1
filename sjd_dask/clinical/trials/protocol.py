"""The protocol of a trial as a checked model. Unknown keys are errors; every section may be left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from sjd_dask.clinical.definitions import Overrides
from sjd_dask.clinical.endpoints import trial_template
from sjd_dask.clinical.trials.criteria import read_criterion
from sjd_dask.clinical.trials.design_spec import DesignSpec
from sjd_dask.clinical.trials.eligibility import Rule
from sjd_dask.errors import SpecError, findings_text

Text = Annotated[str, Field(min_length=1)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
# One name, or a list of them.
Names = Annotated[
    list[Text],
    BeforeValidator(
        lambda given: [given] if isinstance(given, str) else given, json_schema_input_type=Text | list[Text]
    ),
]
# Sections that read the screened persons.
_OF_PERSONS = ("criteria", "template", "feasibility", "design_shares")


class Part(BaseModel):
    """What every part of a protocol has."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CriterionSpec(Part):
    """One criterion."""

    name: Text = Field(description="Short, for tables and screen-fail reasons; two criteria never share one.")
    when: Text = Field(
        description="Query over columns of the sheet, scores, axes and molecular_class, such as `essdai >= 5`. A "
        "comparison with what isn't recorded is unknown, unless the range of a score decides it."
    )


class Criteria(Part):
    """Who may enter: every inclusion holds, and no exclusion does."""

    include: list[CriterionSpec] = Field(default_factory=list)
    exclude: list[CriterionSpec] = Field(default_factory=list)


class FeasibilitySpec(Part):
    """Counts of those who could enter."""

    by: Names = Field(default_factory=list, description="Columns to count by: class, axis, site, ...")
    needed: int | None = Field(None, ge=1, description="Persons the trial needs: how many are to be screened for them.")


class RandomisationSpec(Part):
    """Permuted-block lists, one for each stratum."""

    arms: list[Text] = Field(min_length=2)
    seed: int = Field(ge=0, description="Any number, drawn once and kept with the list: it gives the list away.")
    allocation: list[Annotated[int, Field(ge=1)]] | None = Field(None, description="Persons for each arm; equal.")
    strata: list[Text] | dict[Text, list[Text]] = Field(
        default_factory=list,
        description="Columns whose levels are those of the persons screened who may still enter, or column -> levels.",
    )
    block_sizes: list[Annotated[int, Field(ge=2)]] | None = Field(
        None, description="Multiples of the sum of the allocation; default: twice and three times it, drawn."
    )
    per_stratum: int = Field(100, ge=1, le=100_000, description="The least length of each list.")


class ReanalysisSpec(Part):
    """A finished trial by class or axis."""

    table: Text = Field(description="A row for each person randomised: .csv, .tsv(.gz) or .parquet.")
    endpoint: Text
    arm: Text = Field("arm", description="Column of the arms.")
    control: Text | None = Field(
        None, description="The arm that the others are compared with; default: the one called placebo or control."
    )
    by: Names = Field(
        min_length=1, description="Columns of the table, or by person_id of the screened persons: class, axis, ..."
    )
    kind: Literal["continuous", "binary"] = "continuous"
    baseline: Text | None = Field(None, description="Column to adjust for.")
    missing: Literal["complete", "non_responder"] = Field(
        "complete", description="kind: binary. A missing outcome is left out, or counted as no response."
    )
    sequence: list[Text] | None = Field(
        None,
        description="With several arms: those but the control in the order in which they are tested, each at the whole "
        "level until the first that isn't rejected. Default: Holm over the arms.",
    )
    improvement: Literal["down", "up"] = Field(
        "down", description="kind: continuous. Whether a lower or a higher endpoint is better; the figure says so."
    )

    @model_validator(mode="after")
    def _consistent(self) -> ReanalysisSpec:
        if self.kind == "continuous" and self.missing != "complete":
            raise ValueError("`missing: non_responder` belongs to `kind: binary`")
        return self


class Protocol(Part):
    """A trial: who may enter, how many there are, how many are needed, to which arm they go, and what came of it."""

    job: Literal["trial"] = "trial"
    name: Label = Field(description="Name of the trial.")
    sheet: str | None = Field(
        None, description="Clinical sheet of those screened (.csv, .tsv, .parquet), relative to this file."
    )
    cohort: str | None = Field(
        None, description="A cohort: where its `calls` are, and without `sheet` its sample sheet is taken too."
    )
    calls: str | None = Field(
        None,
        description="Molecular classes: classes/NAME of the cohort, or a table with sample_id or person_id, and call. "
        "They become the column molecular_class, or class for short.",
    )
    mapping: str | None = Field(
        None, description="Mapping file of a sheet with column names of its own (`sjd schema clinical-mapping`)."
    )
    output: Text = Field(description="Folder of the results, relative to this file; made when absent.")
    units: dict[str, str] = Field(default_factory=dict, description="Units of columns, such as {igg: mg/dL}.")
    definitions: dict[str, str] = Field(
        default_factory=dict, description="Clinical definitions of your own: name -> YAML file."
    )
    scores: list[Text] | None = Field(
        None, description="Measures to compute first. Default: those whose columns the protocol names."
    )
    score_options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the measures, such as {domains: [...], baseline: \"visit == '1'\"}.",
    )
    screening: str | None = Field(
        None, description="Query for the rows to screen, such as `visit == '1'`; a person has one."
    )
    template: Text | list[Text] | None = Field(
        None, description="Entry criteria of a published trial, added to the criteria: twinss_1 or twinss_2."
    )
    criteria: Criteria | None = None
    feasibility: FeasibilitySpec | None = None
    design: DesignSpec | None = None
    design_shares: Text | None = Field(
        None,
        description="Column whose levels are the strata of the design: their shares are then those of the eligible "
        "persons of this sheet, in place of the shares that are written.",
    )
    randomisation: RandomisationSpec | None = None
    reanalysis: (
        Annotated[
            list[ReanalysisSpec],
            BeforeValidator(
                lambda given: [given] if isinstance(given, Mapping) else given,
                json_schema_input_type=ReanalysisSpec | list[ReanalysisSpec],
            ),
        ]
        | None
    ) = Field(None, description="One, or a list of them.")
    hide_below: int = Field(
        5, ge=0, description="Counts from 1 to one less are left out of the page (tables hold all); 0 shows all."
    )

    @property
    def templates(self) -> list[str]:
        """Names of the templates asked for."""
        return [] if self.template is None else [self.template] if isinstance(self.template, str) else self.template

    @property
    def has_persons(self) -> bool:
        """Whether there are persons to screen."""
        return self.sheet is not None or self.cohort is not None

    @model_validator(mode="after")
    def _consistent(self) -> Protocol:
        of_cohort = self.calls is not None and self.calls.startswith("classes/")
        if self.sheet is not None and self.cohort is not None and not of_cohort:
            raise ValueError("beside a `sheet` the cohort is only asked for `calls: classes/NAME`: name them, or leave "
                             "one of the two out")  # fmt: skip
        sections = [name for name in ("criteria", "template", "feasibility", "design", "randomisation", "reanalysis")
                    if getattr(self, name) is not None]  # fmt: skip
        if not sections:
            raise ValueError("there is nothing to do: give criteria, feasibility, design, randomisation or reanalysis")
        if not self.has_persons:
            of_persons = [name for name in _OF_PERSONS if getattr(self, name) is not None]
            if self.randomisation is not None and isinstance(self.randomisation.strata, list):
                of_persons += ["randomisation.strata"] if self.randomisation.strata else []
            if of_persons:
                raise ValueError(f"`{of_persons[0]}` needs the persons screened: give `sheet` or `cohort`")
        if self.calls is not None and not self.has_persons:
            raise ValueError("`calls` belong to the persons of a `sheet` or `cohort`")
        if of_cohort and self.cohort is None:
            raise ValueError(f"`calls: {self.calls}` is a result of a cohort: give `cohort`, or a file of calls")
        if self.design_shares is not None and (self.design is None or self.design.strata is None):
            raise ValueError("`design_shares` replaces the shares of `design.strata`, and there are none")
        if self.criteria is not None:
            names = [one.name for one in (*self.criteria.include, *self.criteria.exclude)]
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"two criteria are called {twice[0]!r}; a name stands for one")
        return self


def parse_protocol(raw: Mapping[str, Any], where: str = "the protocol") -> Protocol:
    """Check plain data as a protocol.

    Raises
    ------
    SpecError
        Each finding with its key; for an unknown key the nearest known one.
    """
    try:
        return Protocol.model_validate(dict(raw))
    except ValidationError as error:
        raise SpecError(f"{where}: {findings_text(error, Protocol)}") from None


def protocol_rules(protocol: Protocol, definitions: Overrides | None = None) -> list[Rule]:
    """The criteria in order: of the templates, then the inclusions, then the exclusions.

    Raises
    ------
    SpecError
        An unknown template, or a query that can't be read.
    """
    rules = [rule for name in protocol.templates for rule in template_rules(name, definitions)]
    criteria = protocol.criteria or Criteria()
    rules += [Rule(one.name, one.when, "include") for one in criteria.include]
    rules += [Rule(one.name, one.when, "exclude") for one in criteria.exclude]
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise SpecError(f"a criterion of the protocol and one of its template are both called {rule.name!r}")
        seen.add(rule.name)
        read_criterion(rule.when, f"{rule.kind} {rule.name!r}, when")
    return rules


def template_rules(name: str, definitions: Overrides | None = None) -> list[Rule]:
    """The entry criteria of a published trial.

    References
    ----------
    Marks and sources are in definitions/templates.yaml.
    """
    template = trial_template(name, definitions=definitions)
    return [Rule(f"{name}: {one['name']}", one["when"], "include") for one in template["include"]]
