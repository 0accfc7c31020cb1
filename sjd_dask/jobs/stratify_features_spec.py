"""How a spec says which features make the groups."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Ways to choose features, and what belongs to each.
_OPTIONS = {"top": ("by",), "association": ("contrast", "max_q", "min_effect"), "list": ("set",)}


class FeatureChoice(BaseModel):
    """Which features make the groups: the most variable, those of an association, or a list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top: int | None = Field(None, ge=2, description="So many of the most variable features.")
    by: Literal["mad", "cv", "dispersion"] = Field(
        "mad",
        description="With `top`. mad: median absolute deviation. cv: standard deviation / |mean|. dispersion: variance "
        "/ |mean|. Over the chosen samples.",
    )
    association: str | None = Field(
        None, description="associations/NAME[@version]: its features with q_value and |effect| within the limits."
    )
    contrast: str | None = Field(None, description="With `association`: which contrast, where it has several.")
    max_q: float = Field(0.05, gt=0, le=1, description="With `association`: largest q_value.")
    min_effect: float = Field(0.0, ge=0, description="With `association`: smallest |effect|, in its units.")
    list: str | None = Field(
        None,
        description="A text file with one feature id a line, a .tsv or .csv with them in its first column, or gene "
        "sets as .gmt: feature ids or gene symbols. Relative to this file.",
    )
    set: str | None = Field(
        None, min_length=1, description="With `list` of a .gmt file: the set of this name; default: all sets."
    )

    @model_validator(mode="after")
    def _one_way(self) -> FeatureChoice:
        given = [name for name in _OPTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of `top` (most variable), `association` and `list`"
                + (f"; here are: {', '.join(given)}" if given else "")
            )
        for way, options in _OPTIONS.items():
            for key in options:
                if way != given[0] and key in self.model_fields_set and getattr(self, key) is not None:
                    raise ValueError(f"`{key}` belongs to `{way}`, not to `{given[0]}`")
        if self.set is not None and not str(self.list).lower().endswith(".gmt"):
            raise ValueError(f"`set: {self.set}` names a set of a .gmt file, and `list: {self.list}` is none")
        return self
