"""The spec of `job: normalise`: steps are checked models made from the methods' own options."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import operator
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model, field_validator, model_validator

from sjd_dask.jobs.spec import JobSpec, Name
from sjd_dask.normalise.method import Method
from sjd_dask.normalise.methods import METHODS


class _Step(BaseModel):
    # A default is checked as a given value is: 2 of a float is 2.0 in both.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def make(self) -> Method:
        """The method with these options."""
        options = self.model_dump()
        return METHODS[options.pop("method")](**options)


def _model(cls: type[Method]) -> type[_Step]:
    hints = get_type_hints(cls)
    fields: dict[str, Any] = {"method": (Literal[cls.method], cls.method)}
    for one in dataclasses.fields(cls):  # type: ignore[arg-type]
        text = one.metadata.get("description")
        if one.default_factory is not dataclasses.MISSING:
            described = Field(default_factory=one.default_factory, description=text)
        elif one.default is not dataclasses.MISSING:
            described = Field(one.default, description=text)
        else:
            described = Field(..., description=text)
        fields[one.name] = (hints[one.name], described)
    summary = (cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else None
    name = "".join(part.capitalize() for part in cls.method.split("_")) + "Step"
    return create_model(name, __base__=_Step, __doc__=summary, **fields)


STEP_MODELS: dict[str, type[_Step]] = {name: _model(METHODS[name]) for name in sorted(METHODS)}


def _method_of(value: Any) -> str | None:
    found = value.get("method") if isinstance(value, dict) else getattr(value, "method", None)
    return found if isinstance(found, str) else None


Step = Annotated[
    functools.reduce(operator.or_, (Annotated[model, Tag(name)] for name, model in STEP_MODELS.items())),
    Discriminator(_method_of),
]


class DetectionMask(BaseModel):
    """Mask values that were not told from background."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    assay: Name = Field(description="Assay of detection p-values (proportion) of the same samples and features.")
    above: float = Field(0.01, gt=0, lt=1, description="Values whose detection p is above this become missing.")


class BeadMask(BaseModel):
    """Mask values that rest on too few beads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    assay: Name = Field(description="Assay of bead counts (counts) of the same samples and features.")
    below: int = Field(3, ge=1, description="Values that rest on fewer beads than this become missing.")


class NormaliseSpec(JobSpec):
    """Fit a chain of steps on a reference set and freeze it, or take a frozen one, and write a layer with it."""

    job: Literal["normalise"] = "normalise"
    assay: Name | None = Field(None, description="The assay to normalise; this or `layer`.")
    layer: str | None = Field(None, description="A layer to go on from, layers/NAME[@version], in place of an assay.")
    steps: list[Step] | None = Field(  # type: ignore[valid-type]
        None, description="Methods in order, each a name or a name with options; they are fitted and frozen as one."
    )
    parameters: str | None = Field(
        None, description="layers/NAME@version: take its frozen chain, in place of `steps` and `fit_on`."
    )
    fit_on: str | None = Field(
        None, description="pandas query over the sample columns: the reference set. Default: all selected samples."
    )
    extend_on: str | None = Field(
        None,
        description="With `parameters`: pandas query for the samples of new batches whose parameters are fitted "
        "against the frozen reference and added, as a new version.",
    )
    detection_p: DetectionMask | None = Field(
        None,
        description="Values that were not detected become missing before the first step, where the chain is fitted and "
        "where it is applied. With `parameters` it must be given again.",
    )
    bead_count: BeadMask | None = Field(
        None, description="The same for values that rest on too few beads. With `parameters` it must be given again."
    )
    samples: str | None = Field(None, description="pandas query: the samples to normalise. Default: all of the assay.")
    precision: Literal["double", "single"] = Field(
        "double",
        description="Stored type of the layer: double float64, single float32. Arithmetic is float64 in both.",
    )
    sex: str | None = Field(None, description="Sample column of the recorded sex, to find swapped arrays.")
    factors: list[str] = Field(
        default_factory=list,
        description="Sample columns whose share of the variance is reported before and after; batches are always.",
    )
    colour_by: str | None = Field(None, description="Sample column that colours the report's principal components.")

    @classmethod
    def explain(cls, finding: Any) -> str | None:
        """What is wrong with a step: its number, its method, its option."""
        return _explain_step(finding) if finding["loc"][:1] == ("steps",) else None

    @field_validator("steps", mode="before")
    @classmethod
    def _names_are_steps(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [{"method": one} if isinstance(one, str) else one for one in value]
        return value

    @model_validator(mode="after")
    def _consistent(self) -> NormaliseSpec:
        if (self.assay is None) == (self.layer is None):
            raise ValueError("give exactly one of `assay` and `layer`")
        if (self.steps is None) == (self.parameters is None):
            raise ValueError("give exactly one of `steps` (to fit) and `parameters` (to apply a frozen chain)")
        if self.steps is not None and not self.steps:
            raise ValueError("`steps` is empty; name at least one method")
        if self.parameters is not None and self.fit_on is not None:
            raise ValueError(
                "`fit_on` belongs to `steps`; a frozen chain is not fitted again. To add parameters for new batches, "
                "name their samples with `extend_on`"
            )
        if self.extend_on is not None and self.parameters is None:
            raise ValueError("`extend_on` adds batches to a frozen chain: it needs `parameters`")
        return self


def _explain_step(finding: Any) -> str | None:
    place, kind, found = finding["loc"][1:], finding["type"], finding["input"]
    known = ", ".join(STEP_MODELS)
    if not place:
        return f"`steps` is a list of methods, such as [tmm, log_cpm], not {found!r}" if kind == "list_type" else None
    step = f"step {place[0] + 1}"
    if kind == "union_tag_invalid":
        name = finding["ctx"]["tag"]
        near = difflib.get_close_matches(name, STEP_MODELS, n=1)
        hint = f"did you mean `{near[0]}`? The" if near else "the"
        return f"{step}: there is no method `{name}`; {hint} methods are: {known}"
    if len(place) == 1:
        return f"{step}: {found!r} names no method; write NAME or {{method: NAME, option: value}}. Methods: {known}"
    method = str(place[1])
    step = f"{step} (`{method}`)"
    option = ".".join(str(one) for one in place[2:] if not str(one).startswith(("list[", "function-")))
    options = [name for name in STEP_MODELS[method].model_fields if name != "method"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(option, options, n=1)
        there = f"ts options are: {', '.join(options)}" if options else "t has none"
        hint = f"did you mean `{near[0]}`? I" if near else "i"
        return f"{step}: there is no option `{option}`; {hint}{there}"
    if kind == "missing":
        return f"{step}: the option `{option}` is required"
    return f"{step}: `{option}`: {finding['msg'].removeprefix('Value error, ')} (found {found!r})"
