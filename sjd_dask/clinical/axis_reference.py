"""A named cohort in which positions on the axes become percentiles; fitted once, kept as JSON, applied row by row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.errors import DataError, SpecError

if TYPE_CHECKING:
    from sjd_dask.clinical.axis_items import AxisItem
    from sjd_dask.clinical.sheet import Sheet

THIS_SHEET = "this sheet"
_KIND = "axis reference"
_FORMAT = 1
_MOST_STEPS = 100_000
# What of the definitions a position hangs on; other sections (the margin, the evidence) may differ from the fit's.
_POSITION_SECTIONS = {
    "axes": ("axes", "gland_tests", "gland_instruments"),
    "essdai": ("items",),
    "clinessdai": ("items",),
    "esspri": ("items", "combine"),
}
_WORDS = (
    "mark",
    "source",
    "title",
    "note",
    "unit",
    "positive",
    "negative",
    "amplified",
    "at_least",
    "answer",
    "number",
)


@dataclass(frozen=True)
class Distribution:
    """Positions of a reference cohort on one axis.

    Attributes
    ----------
    grid
        Positions are compared in whole steps of this size.
    steps
        The steps that occur, ascending, (k,) int64.
    weights
        Persons at each, (k,): a person's visits share a weight of 1.
    n_persons
        Persons with a known position.
    """

    grid: float
    steps: np.ndarray
    weights: np.ndarray
    n_persons: int

    def percentile(self, values: np.ndarray) -> np.ndarray:
        """Percent of the cohort below each value plus half of those at it, (n,); NaN where the value is."""
        first, last = int(self.steps[0]), int(self.steps[-1])
        # One place below the least step that occurs, one above the greatest, and one for each between.
        at = np.zeros(last - first + 3)
        at[self.steps - first + 1] = self.weights
        upto = np.cumsum(at)
        table = np.append(100.0 * (upto - at / 2.0) / upto[-1], np.nan)
        steps = np.clip(np.rint(values / self.grid) - first + 1, 0, len(at) - 1)
        return table[np.where(np.isnan(values), len(at), steps).astype(np.int64)]


@dataclass(frozen=True)
class AxisReference:
    """The distribution of a named cohort on each axis.

    Attributes
    ----------
    name
        What results call the cohort.
    axes
        Axis -> Distribution.
    least_persons
        With fewer persons on an axis it gives no percentiles.
    fingerprint
        Of the definitions that positions hang on: another one is refused.
    items
        Axis -> item -> Distribution of twice the step of its value, plus 1 where its answer is positive; what a missing
        item is likely to be. Empty in a reference that was kept before items were, or made of positions alone.
    """

    name: str
    axes: dict[str, Distribution]
    least_persons: int
    fingerprint: str
    items: dict[str, dict[str, Distribution]] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        sheet: Sheet,
        name: str,
        *,
        definitions: Overrides | None = None,
        domains: Sequence[str] | str | None = None,
        laboratory: str = "propose",
        complete: bool = False,
    ) -> AxisReference:
        """The distribution of a sheet's rows; see `from_positions`."""
        from sjd_dask import names
        from sjd_dask.clinical.axes import axis_positions
        from sjd_dask.clinical.axis_items import axis_items

        options: dict[str, Any] = {"definitions": definitions, "domains": domains, "laboratory": laboratory}
        ids = sheet.ids
        persons = ids[names.PERSON_ID].to_numpy() if names.PERSON_ID in ids else None
        items = axis_items(sheet, **options)
        positions = axis_positions(sheet, **options)
        return cls.from_positions(positions, name, persons=persons, items=items, complete=complete, **options)

    @classmethod
    def from_positions(
        cls,
        positions: pd.DataFrame,
        name: str,
        *,
        persons: Any = None,
        items: Mapping[str, Sequence[AxisItem]] | None = None,
        definitions: Overrides | None = None,
        domains: Sequence[str] | str | None = None,
        laboratory: str = "propose",
        complete: bool = False,
    ) -> AxisReference:
        """The distribution of positions, whatever partitions they were made in.

        Parameters
        ----------
        positions : DataFrame
            With ``axisN_position``, as `axes.axis_positions` makes it; rows without a known position don't count.
        name : str
        persons : array, optional
            Whose row it is, (n,): a person's rows share a weight of 1. A row without a person, and every row by
            default, is a person of its own.
        items : mapping, optional
            Of `axis_items.axis_items`, of the same rows: without them the reference says nothing of what a missing item
            is likely to be.
        definitions, domains, laboratory
            Those that the positions were made with.
        complete : bool
            Only rows that are known on all axes: percentiles of the axes are then of the same people.

        Raises
        ------
        SpecError
            No name.
        """
        if not str(name).strip():
            raise SpecError("a reference cohort needs a name: results say what they were compared with")
        table = load_definition("axes", definitions)
        grids = {axis: float(own["grid"]) for axis, own in table["axes"].items()}
        values = {axis: positions[f"axis{own['number']}_position"].to_numpy() for axis, own in table["axes"].items()}
        all_known = np.logical_and.reduce([~np.isnan(one) for one in values.values()])
        who = _codes(persons, len(positions))
        fitted = {}
        for axis, own in values.items():
            rows = np.flatnonzero(all_known if complete else ~np.isnan(own))
            fitted[axis] = _distribution(own[rows], who[rows], grids[axis])
        mark = definition_fingerprint(definitions, domains, laboratory)
        made = {
            axis: {one.name: _item_distribution(one, who, grids[axis]) for one in own}
            for axis, own in (items or {}).items()
        }
        known = {axis: {item: one for item, one in own.items() if one.n_persons} for axis, own in made.items()}
        return cls(str(name), fitted, int(table["dominance"]["least_persons"]["value"]), mark, known)

    def enough(self, axis: str) -> bool:
        """Whether the cohort has enough persons on an axis to give percentiles."""
        return self.axes[axis].n_persons >= self.least_persons

    def percentile(self, axis: str, values: np.ndarray) -> np.ndarray:
        """Percentiles of positions on an axis, (n,); NaN where the cohort has too few persons there."""
        if not self.enough(axis):
            return np.full(len(values), np.nan)
        return self.axes[axis].percentile(values)

    def check(
        self,
        *,
        definitions: Overrides | None = None,
        domains: Sequence[str] | str | None = None,
        laboratory: str = "propose",
    ) -> None:
        """Refuse positions that were made by another definition than this cohort's.

        Raises
        ------
        SpecError
            They don't compare.
        """
        if definition_fingerprint(definitions, domains, laboratory) != self.fingerprint:
            raise SpecError(
                f"the reference cohort {self.name!r} was fitted with other definitions, domains or use of laboratory "
                "values than those asked for, and positions don't compare; fit it again with these"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with no id of anyone: steps that occur and the persons at each."""
        return {
            "kind": _KIND,
            "format": _FORMAT,
            "name": self.name,
            "least_persons": self.least_persons,
            "fingerprint": self.fingerprint,
            "axes": {axis: _plain(one) for axis, one in self.axes.items()},
            "items": {axis: {name: _plain(one) for name, one in own.items()} for axis, own in self.items.items()},
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], where: str = "the reference cohort") -> AxisReference:
        """As `to_dict` wrote it.

        Raises
        ------
        DataError
            It isn't one, or a later format.
        """
        if not isinstance(given, Mapping) or given.get("kind") != _KIND:
            raise DataError(f"{where} is no reference of axes: make one from a sheet by --save-reference")
        if given.get("format") != _FORMAT:
            raise DataError(f"{where} has format {given.get('format')!r}; this version reads {_FORMAT}")
        try:
            axes = {str(axis): _read(one) for axis, one in given["axes"].items()}
            items = {
                str(axis): {str(name): _read(one) for name, one in own.items()}
                for axis, own in given.get("items", {}).items()
            }
            found = cls(str(given["name"]), axes, int(given["least_persons"]), str(given["fingerprint"]), items)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{where} is damaged: {type(error).__name__} at {error}") from None
        lacking = [axis for axis in load_definition("axes")["axes"] if axis not in axes]
        if lacking:
            raise DataError(f"{where} lacks the axis {lacking[0]!r}")
        every = [*axes.items(), *(pair for own in items.values() for pair in own.items())]
        for axis, one in every:
            ascending = (np.diff(one.steps) > 0).all() and (one.weights > 0).all()
            if one.steps.shape != one.weights.shape or not ascending:
                raise DataError(f"{where} is damaged: steps of {axis!r} don't ascend or don't fit their weights")
        return found

    def write(self, path: str | Path) -> None:
        """Write the JSON file."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")


def as_reference(given: AxisReference | Mapping[str, Any] | str | Path) -> AxisReference:
    """A reference from itself, from plain JSON, or from a file.

    Raises
    ------
    SpecError
        There is no such file.
    DataError
        It holds no reference.
    """
    if isinstance(given, AxisReference):
        return given
    if isinstance(given, Mapping):
        return AxisReference.from_dict(given)
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"the reference cohort {str(path)!r} can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{str(path)!r} is no text: a reference cohort is a JSON file") from None
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{str(path)!r} is no JSON ({error}): a reference cohort is a JSON file") from None
    return AxisReference.from_dict(content, f"{str(path)!r}")


def _plain(one: Distribution) -> dict[str, Any]:
    return {
        "grid": one.grid,
        "n_persons": one.n_persons,
        "steps": one.steps.tolist(),
        "weights": one.weights.tolist(),
    }


def _read(one: Mapping[str, Any]) -> Distribution:
    return Distribution(
        float(one["grid"]),
        np.asarray(one["steps"], dtype=np.int64),
        np.asarray(one["weights"], dtype=np.float64),
        int(one["n_persons"]),
    )


def definition_fingerprint(
    definitions: Overrides | None, domains: Sequence[str] | str | None = None, laboratory: str = "propose"
) -> str:
    """A hash of what positions hang on, words and cut-offs of states left out."""
    parts = {
        name: {section: _bare(load_definition(name, definitions)[section]) for section in sections}
        for name, sections in _POSITION_SECTIONS.items()
    }
    asked = None if domains is None else sorted(domains.split(",") if isinstance(domains, str) else domains)
    text = json.dumps([parts, asked, laboratory], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _bare(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return {str(key): _bare(value) for key, value in entry.items() if key not in _WORDS}
    if isinstance(entry, list):
        return [_bare(one) for one in entry]
    return float(entry) if isinstance(entry, int) and not isinstance(entry, bool) else entry


def _codes(persons: Any, n: int) -> np.ndarray:
    """A number for each person; rows without one are persons of their own."""
    if persons is None:
        return np.arange(n)
    codes, different = pd.factorize(np.asarray(persons, dtype=object))
    alone = codes < 0
    codes[alone] = len(different) + np.arange(alone.sum())
    return codes


def _item_distribution(item: AxisItem, who: np.ndarray, grid: float) -> Distribution:
    """Persons at each step and answer of an item, of the rows in which both are known."""
    answer = np.zeros(len(item.low)) if item.answer is None else item.answer
    rows = np.flatnonzero((item.low == item.high) & ~np.isnan(answer))
    coded = 2.0 * np.rint(item.low[rows] / grid) + answer[rows]
    found = _distribution(coded, who[rows], 1.0)
    return Distribution(grid, found.steps, found.weights, found.n_persons)


def _distribution(values: np.ndarray, who: np.ndarray, grid: float) -> Distribution:
    """Steps and the persons at each. Sums don't depend on the order of the rows, to the last bit."""
    if not len(values):
        return Distribution(grid, np.empty(0, dtype=np.int64), np.empty(0), 0)
    visits = np.bincount(who)
    steps = np.rint(values / grid).astype(np.int64)
    first, most = int(steps.min()), int(visits.max())
    if int(steps.max()) - first > _MOST_STEPS:
        raise SpecError(
            f"definition 'axes': a grid of {grid:g} makes more than {_MOST_STEPS:,} steps; take a wider one"
        )
    rows = np.bincount(
        (steps - first) * (most + 1) + visits[who], minlength=(int(steps.max()) - first + 1) * (most + 1)
    )
    # Rows are counted before they are weighed, in one order: sums are then the same whatever the order of the rows.
    weights = rows.reshape(-1, most + 1)[:, 1:] @ (1.0 / np.arange(1, most + 1))
    different = np.flatnonzero(weights)
    return Distribution(grid, different + first, weights[different], int((visits > 0).sum()))
