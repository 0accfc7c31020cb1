"""A frozen multinomial model of clinical items as a file: read, checked, applied to one row after another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sjd_dask.clinical.reasons import by_pattern, missing_reason
from sjd_dask.errors import SpecError
from sjd_dask.kernels.additive import category_scores, open_classes
from sjd_dask.kernels.scoring import linear_scores, top_class

Floats = NDArray[np.float64]
Number = Annotated[float, Field(allow_inf_nan=False)]

FORMAT = "sjd-dask multinomial model"
VERSION = 1
RE_DERIVED = "re-derived"
# Every row says so where groups of two halves of the cohort weren't the same.
DISAGREE = f"{RE_DERIVED}, halves disagree"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NumberItem(_Strict):
    """An item that counts by its value: (value - centre) / scale times the slope of each group."""

    name: str
    centre: Number = 0.0
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    low: Number
    high: Number
    slopes: list[Number]


class Category(_Strict):
    """A category of a variable, with the score it adds for each group."""

    name: str
    share: Number | None = None
    scores: list[Number]
    coordinates: list[Number] = []


class Variable(_Strict):
    """An item that counts by its category; `source` is how the category is made of a sheet's columns."""

    name: str
    categories: Annotated[list[Category], Field(min_length=1)]
    made_from: dict[str, Any] = {}


class MultinomialModel(_Strict):
    """A multinomial logistic model of groups, with all it was made of.

    Attributes
    ----------
    measure : str
        ``nsst`` or ``integrated``.
    label : str
        ``re-derived`` where the groups were found again in some cohort, ``re-derived, halves disagree`` where those of
        two halves of it weren't the same; else what the file says of itself.
    source : str
        Where it comes from.
    groups : list of str
    intercepts : list of float
    items : list of NumberItem
    variables : list of Variable
    fit : dict
        What is known of the fit: persons, groups' centroids, how groups were named, agreement.
    """

    format: Literal["sjd-dask multinomial model"] = "sjd-dask multinomial model"
    version: Literal[1] = 1
    measure: str
    label: str = "coefficients from a file"
    source: Annotated[str, Field(min_length=1)]
    groups: Annotated[list[str], Field(min_length=2)]
    intercepts: list[Number]
    items: list[NumberItem] = []
    variables: list[Variable] = []
    fit: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_number_a_group(self) -> MultinomialModel:
        k = len(self.groups)
        if len(set(self.groups)) < k:
            raise ValueError(f"two groups have one name: {', '.join(self.groups)}")
        if bool(self.items) == bool(self.variables):
            raise ValueError("give either `items` (numbers) or `variables` (categories)")
        lists = [("intercepts", self.intercepts), *((one.name, one.slopes) for one in self.items)]
        lists += [(f"{one.name}, {c.name}", c.scores) for one in self.variables for c in one.categories]
        for what, numbers in lists:
            if len(numbers) != k:
                raise ValueError(f"{what}: {len(numbers)} numbers for {k} groups ({', '.join(self.groups)})")
        for one in self.items:
            if not one.low < one.high:
                raise ValueError(f"{one.name}: low {one.low:g} is not below high {one.high:g}")
        names = [one.name for one in (*self.items, *self.variables)]
        if len(set(names)) < len(names):
            raise ValueError(f"an item is there twice: {', '.join(names)}")
        return self


def read_model(model: str | Path | Mapping[str, Any] | MultinomialModel, measure: str) -> MultinomialModel:
    """A model from a file (JSON or YAML) or from what such a file would hold.

    Parameters
    ----------
    model : path, mapping or MultinomialModel
    measure : str
        The measure that it must be of.

    Raises
    ------
    SpecError
        A file that can't be read, or holds no such model: names the field.
    """
    if isinstance(model, MultinomialModel):
        found = model
    else:
        where = "the given model"
        given: Any = model
        if not isinstance(model, Mapping):
            where = f"the model file {model}"
            given = _parsed(Path(model), where)
        if not isinstance(given, Mapping):
            raise SpecError(
                f"{where} holds no model of {measure}: a mapping with groups, intercepts and items is wanted"
            )
        try:
            found = MultinomialModel.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, first["loc"])) or "the model"
            raise SpecError(f"{where} is no model of {measure}: {at}: {first['msg']}") from None
    if found.measure != measure:
        raise SpecError(
            f"the model is one of measure {found.measure!r}, and {measure!r} was asked for: give its own file"
        )
    return found


def write_model(model: MultinomialModel | Mapping[str, Any], path: str | Path) -> None:
    """Write a model as JSON; numbers come back to the last digit."""
    data = model.model_dump() if isinstance(model, MultinomialModel) else dict(model)
    Path(path).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _parsed(path: Path, where: str) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{where} can't be read: {error}") from None
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise SpecError(f"{where} is damaged or of another kind: {error}") from None


@dataclass(frozen=True)
class Classified:
    """What a model says of rows.

    Attributes
    ----------
    scores : ndarray (n, k)
        Over the known items; an unknown one at the mean of the cohort that the model was fitted on.
    probability : ndarray (n, k)
        Of these scores.
    low, high : ndarray (n, k)
        Bounds over all completions; equal to `probability` where all items are known.
    possible : ndarray of bool (n, k)
        Groups that some completion may have on top.
    known : ndarray of bool (n, p)
    """

    scores: Floats
    probability: Floats
    low: Floats
    high: Floats
    possible: NDArray[np.bool_]
    known: NDArray[np.bool_]


def classify_numbers(model: MultinomialModel, values: Floats) -> Classified:
    """Groups of rows of numbers, (n, p) in the order of the model's items; NaN is not known."""
    centre = np.array([one.centre for one in model.items])
    scale = np.array([one.scale for one in model.items])
    slopes = np.array([one.slopes for one in model.items])
    known = np.isfinite(values)
    z = np.ascontiguousarray(np.where(known, (values - centre) / scale, 0.0))
    ends = (np.array([[one.low, one.high] for one in model.items]) - centre[:, None]) / scale[:, None]
    pairs = slopes[:, :, None] - slopes[:, None, :]
    least = np.minimum(ends[:, 0, None, None] * pairs, ends[:, 1, None, None] * pairs)
    scores = linear_scores(z, np.ascontiguousarray(slopes.T), np.array(model.intercepts))
    return _classified(scores, known, least)


def classify_categories(model: MultinomialModel, codes: NDArray[np.int8]) -> Classified:
    """Groups of rows of categories, (n, p) from 0 in the order of the model's variables; negative is not known."""
    table = np.array([c.scores for one in model.variables for c in one.categories])
    offsets = np.cumsum([0, *(len(one.categories) for one in model.variables)])
    least = np.empty((len(model.variables), len(model.groups), len(model.groups)))
    for j in range(len(model.variables)):
        own = table[offsets[j] : offsets[j + 1]]
        least[j] = (own[:, :, None] - own[:, None, :]).min(axis=0)
    scores = category_scores(np.ascontiguousarray(codes), offsets.astype(np.int64), table, np.array(model.intercepts))
    return _classified(scores, codes >= 0, least)


def _classified(scores: Floats, known: NDArray[np.bool_], least: Floats) -> Classified:
    return Classified(scores, *open_classes(scores, np.ascontiguousarray(known), least), known)


def group_columns(measure: str) -> dict[str, tuple[str, str]]:
    """What the columns of a measure of groups hold; those of single groups are the model's own."""
    m = measure
    return {
        m: ("text", "group; missing where the missing items leave more than one"),
        f"{m}_possible": ("text", "groups that some completion of the missing items makes the most probable"),
        f"{m}_probability": ("number", "probability of the group, where all items are known"),
        f"{m}_probability_min": ("number", "probability of the group, least under the missing items"),
        f"{m}_probability_max": ("number", "probability of the group, most under the missing items"),
        f"{m}_known": ("integer", "items known"),
        f"{m}_items": ("integer", "items asked"),
        f"{m}_reason": ("text", "items that are missing; empty where none"),
        f"{m}_at_means": ("text", "group with missing items at the means of the model's cohort: a guess"),
        f"{m}_label": (
            "text",
            "whether the groups were re-derived (and halves of the cohort disagree), or come from a file",
        ),
        f"{m}_p_<group>": ("number", "probability of each group, where all items are known; with _min and _max"),
    }


def result_table(
    model: MultinomialModel, found: Classified, names: Sequence[str], wanted: Sequence[str], least_known: float
) -> pd.DataFrame:
    """The columns of a measure of groups.

    Parameters
    ----------
    model : MultinomialModel
    found : Classified
    names : sequence of str
        Item names in the order of ``found.known``.
    wanted : sequence of str
        Items that are spoken of in reasons, as `names` or better known names, in the same order.
    least_known : float
        Share of the items that must be known for a group under the mean to be named.
    """
    m, n = model.measure, len(found.scores)
    n_known = found.known.sum(axis=1)
    determined = found.possible.sum(axis=1) == 1
    some = n_known > 0
    groups = np.array([*model.groups, None], dtype=object)
    top = top_class(found.probability)
    at = np.where(determined & some, found.possible.argmax(axis=1), len(groups) - 1)
    own = np.where(at < len(model.groups), at, 0)
    rows = np.arange(n)
    named = at < len(model.groups)
    complete = n_known == len(names)

    def own_of(values: Floats, where: NDArray[np.bool_]) -> Floats:
        return np.where(where, values[rows, own], np.nan)

    guess = np.where(n_known >= least_known * len(names) - 1e-9, top, len(model.groups))
    missing = missing_reason(found.known, wanted)
    open_text = by_pattern(
        [found.possible[:, c] for c in range(len(model.groups))],
        lambda *there: " or ".join(name for name, one in zip(model.groups, there, strict=True) if one),
    )
    data: dict[str, Any] = {
        m: groups[at],
        f"{m}_possible": np.where(some, open_text, " or ".join(model.groups)),
        f"{m}_probability": own_of(found.probability, named & complete),
        f"{m}_probability_min": own_of(found.low, named),
        f"{m}_probability_max": own_of(found.high, named),
        f"{m}_known": n_known.astype(np.int64),
        f"{m}_items": np.full(n, len(names), dtype=np.int64),
        f"{m}_reason": missing,
        f"{m}_at_means": groups[guess],
        f"{m}_label": np.full(n, model.label, dtype=object),
    }
    for c, name in enumerate(model.groups):
        data[f"{m}_p_{name}"] = np.where(complete, found.probability[:, c], np.nan)
        data[f"{m}_p_{name}_min"] = found.low[:, c]
        data[f"{m}_p_{name}_max"] = found.high[:, c]
    # Text stays Python objects: making it Arrow text takes longer than everything else.
    return pd.DataFrame({name: pd.Series(one, dtype=one.dtype) for name, one in data.items()})
