"""The measures that can be computed from a clinical sheet, and the one function that computes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.definitions import Overrides, did_you_mean
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import SpecError

if TYPE_CHECKING:
    import xarray as xr


# The option by which a row takes tests from the person's other visits.
CARRY = "carry"


@dataclass(frozen=True)
class Measure:
    """One measure: what it is called, needs and returns, and the function that computes it.

    Attributes
    ----------
    name
        As users ask for it (``-`` and ``_`` are the same).
    function
        ``f(sheet, *, definitions=None, **options) -> DataFrame``: the sheet's rows in order, the measure's columns.
    title
        A line for people.
    by_person
        Whether a row's result depends on the person's other rows, so that partitions may not split a person.
    needs
        Columns it reads; at least one must be there.
    needs_model
        Whether it wants the option ``model``: it is then no part of all that a sheet alone can give.
    columns
        Result column -> (type: number, integer, text or flag; what it holds).
    also
        Columns that come only with the option ``carry``: as `columns`.
    beside
        What the result of all rows together says more: of the id and own columns, name -> numbers; none where nothing.
    """

    name: str
    function: Callable[..., pd.DataFrame]
    title: str
    by_person: bool = False
    needs: tuple[str, ...] = ()
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    needs_model: bool = False
    also: dict[str, tuple[str, str]] = field(default_factory=dict)
    beside: Callable[[pd.DataFrame], dict[str, dict[str, Any]]] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options the function takes."""
        taken = list(inspect.signature(self.function).parameters.values())[1:]
        return tuple(one.name for one in taken if one.name != "definitions" and one.kind is not one.VAR_KEYWORD)

    def looks_at_persons(self, options: Mapping[str, Any]) -> bool:
        """Whether a row's result depends on the person's other rows, with these options."""
        return self.by_person or (CARRY in self.options and options.get(CARRY) is not None)


def interval_columns(name: str, title: str) -> dict[str, tuple[str, str]]:
    """The columns that every score has: value, minimum, maximum, items known and asked, reason."""
    return {
        name: ("number", f"{title}; missing where the missing items leave it open"),
        f"{name}_min": ("number", f"{title}, least it can be under the missing items"),
        f"{name}_max": ("number", f"{title}, most it can be under the missing items"),
        f"{name}_known": ("integer", "items known"),
        f"{name}_items": ("integer", "items asked"),
        f"{name}_reason": ("text", "why it is undetermined, or what was noticed; empty where nothing"),
    }


def carried_column(name: str) -> dict[str, tuple[str, str]]:
    """The column that comes with the option ``carry``."""
    return {f"{name}_carried": ("text", "columns taken from other visits of the person, and from which sample")}


def text_kept(columns: Mapping[str, Any]) -> pd.DataFrame:
    """A DataFrame of these columns in which texts stay plain objects, whatever the library would make of them.

    So a column of texts has one type whether or not some rows, or all, have none.
    """
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype=object)
            if getattr(getattr(values, "dtype", None), "kind", "") == "O"
            else values
            for name, values in columns.items()
        }
    )


# Name -> module of this room and the Measure in it; loaded when first asked for.
_WHERE: dict[str, tuple[str, str]] = {
    "essdai": ("essdai", "ESSDAI"),
    "clinessdai": ("essdai", "CLINESSDAI"),
    "esspri": ("esspri", "MEASURE"),
    "laboratory": ("laboratory", "MEASURE"),
    "sledai": ("sledai", "MEASURE"),
    "acr_eular": ("acr_eular", "ACR_EULAR"),
    "glands": ("glands", "GLANDS"),
    "sgus": ("sgus", "SGUS"),
    "star": ("response", "STAR"),
    "cress": ("response", "CRESS"),
    "change": ("response", "CHANGE"),
    "axes": ("axes", "MEASURE"),
    "axes_change": ("axis_change", "MEASURE"),
    "nsst": ("symptom_clusters", "MEASURE"),
    "integrated": ("integrated_clusters", "MEASURE"),
    "modules": ("module_scores", "MEASURE"),
}


class _Measures(Mapping[str, Measure]):
    """``MEASURES``: name -> `Measure`, each loaded when first asked for."""

    def __getitem__(self, name: str) -> Measure:
        module, attribute = _WHERE[name]
        return getattr(import_module(f"sjd_dask.clinical.{module}"), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(_WHERE)

    def __len__(self) -> int:
        return len(_WHERE)


MEASURES: Mapping[str, Measure] = _Measures()


def find_measure(name: str) -> Measure:
    """The measure of that name, ``-`` and ``_`` and case alike.

    Raises
    ------
    SpecError
        There is none: names the near one.
    """
    plain = str(name).strip().lower().replace("-", "_")
    if plain not in MEASURES:
        raise SpecError(f"no measure {name!r}{did_you_mean(plain, MEASURES)}; there are {', '.join(MEASURES)}")
    return MEASURES[plain]


def computable(sheet: Sheet) -> list[str]:
    """Names of the measures of which the sheet has at least one column, in their order; those by a model left out."""
    return [
        name
        for name, one in MEASURES.items()
        if not one.needs_model and (not one.needs or any(sheet.has(column) for column in one.needs))
    ]


def require_columns(sheet: Sheet, needs: tuple[str, ...], what: str) -> None:
    """Refuse a sheet that has none of the columns a measure reads.

    Raises
    ------
    SpecError
        Names the columns, and headers of the sheet that are nearly one of them.
    """
    if not needs or any(sheet.has(column) for column in needs):
        return
    near = [f"{header!r}{hint}" for header, hint in sheet.unknown.items() if hint]
    hint = f"; headers that nearly fit: {', '.join(near[:5])}" if near else ""
    shown = ", ".join(needs[:12]) + (", ..." if len(needs) > 12 else "")
    raise SpecError(
        f"{what} needs at least one of the columns {shown}, and the sheet has none of them{hint}. "
        f"A mapping file gives a sheet's own names"
    )


def score(
    frame: Any,
    measures: str | list[str] | tuple[str, ...],
    *,
    units: Mapping[str, str] | None = None,
    definitions: Overrides | None = None,
    **options: Any,
) -> Any:
    """Score a table of visits.

    Parameters
    ----------
    frame
        A DataFrame, an xarray Dataset along ``samples``, or a `Sheet`.
    measures
        A measure's name or several; their columns stand side by side in this order.
    units
        Unit by column, for columns not in their own unit.
    definitions
        By name, a YAML file (or mapping) laid over the shipped definition.
    options
        Given to those measures that take them (``domains``, ``baseline``, ``laboratory``, ...).

    Returns
    -------
    pandas.DataFrame, or xarray.Dataset along ``samples`` for a Dataset
        The sheet's rows in their order: ``sample_id``, ``person_id``, ``visit``, ``date`` as far as they are there,
        then each measure's columns. A score is missing where the missing items leave it open; its ``_min`` and ``_max``
        say what is sure. Missing is never 0, unknown never negative.

    Raises
    ------
    SpecError
        An unknown measure or option; a sheet with none of a measure's columns; an unknown unit or definition.
    DataError
        A value that isn't allowed or plausible.

    Examples
    --------
    >>> sheet = pd.DataFrame({"sample_id": ["a"], "dryness": [6], "fatigue": [5], "pain": [4]})
    >>> score(sheet, "esspri")["esspri"].tolist()
    [5.0]
    """
    asked = [measures] if isinstance(measures, str) else list(measures)
    chosen = list({one.name: one for one in map(find_measure, asked)}.values())
    if not chosen:
        raise SpecError(f"no measure was asked for; there are {', '.join(MEASURES)}")
    taken = {option for one in chosen for option in one.options}
    for option in options:
        if option not in taken:
            raise SpecError(
                f"none of {', '.join(one.name for one in chosen)} takes an option {option!r}"
                f"{did_you_mean(option, taken)}; options here: {', '.join(sorted(taken)) or 'none'}"
            )
    sheet = Sheet.read(frame, units=units, definitions=definitions)
    parts = [sheet.ids]
    for one in chosen:
        require_columns(sheet, one.needs, one.name)
        own = {name: value for name, value in options.items() if name in one.options}
        part = one.function(sheet, definitions=definitions, **own).reset_index(drop=True)
        parts.append(part)
    result = pd.concat(parts, axis=1)
    result = result.loc[:, ~result.columns.duplicated()]
    return result if isinstance(frame, pd.DataFrame | Sheet) else _as_dataset(result, sheet)


def _as_dataset(result: pd.DataFrame, sheet: Sheet) -> xr.Dataset:
    """Scores as variables along ``samples``, ids as coordinates."""
    import xarray as xr

    columns = {str(name): (names.SAMPLES, result[name].to_numpy()) for name in result}
    ids = {str(name): columns.pop(str(name)) for name in sheet.ids}
    return xr.Dataset(columns, coords=ids)
