"""A clinical sheet: one row a visit, columns under their canonical names, values checked and in one unit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.columns import Columns, column_dictionary
from sjd_dask.clinical.definitions import Overrides, did_you_mean
from sjd_dask.clinical.values import ColumnReader
from sjd_dask.errors import DataError, SpecError

_IDS = (names.SAMPLE_ID, names.PERSON_ID, names.VISIT, names.DATE)
_UNIT_SUFFIX = "_unit"
# The offset from UTC of a time of day.
_OFFSET = re.compile(r"([T ]\d{2}(?::?\d{2}){0,2}(?:[.,]\d+)?) ?(?:Z|[+-]\d{2}(?::?\d{2})?)$", re.IGNORECASE)
_YEARS = (1678, 2261)  # what nanoseconds since 1970 can hold
_NEARLY = 0.8  # a sheet has headers of its own, which need not resemble any of these: only misspellings are pointed at


def canonical_name(header: object, definitions: Overrides | None = None) -> tuple[str, str | None] | None:
    """The canonical column behind a header, and the unit it carries.

    >>> canonical_name("Hb [g/L]")
    ('haemoglobin', 'g/L')
    >>> canonical_name("shoe size") is None
    True
    """
    return column_dictionary(definitions).canonical(header)


class Sheet:
    """A table of visits with checked values. Made by `Sheet.read`.

    Columns are read, converted and checked when they are first asked for, and kept: a column that no measure needs may
    hold anything. `check` reads all at once.

    Attributes
    ----------
    frame
        The table, recognised columns under their canonical names, the others as they were. Values as given.
    unknown
        Headers that the dictionary doesn't know -> ``" (did you mean 'x'?)"`` or an empty text.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        columns: Columns,
        divide: dict[str, Any],
        unknown: dict[str, str],
        headers: dict[str, str],
    ) -> None:
        self.frame = frame
        self.unknown = unknown
        self._headers = headers
        self._columns = columns
        self._divide = divide
        self._numbers: dict[str, np.ndarray] = {}
        self._ids: pd.DataFrame | None = None
        self._sample_ids = frame[names.SAMPLE_ID].to_numpy(dtype=object)

    @classmethod
    def read(
        cls,
        frame: Any,
        *,
        units: Mapping[str, str] | None = None,
        definitions: Overrides | None = None,
    ) -> Sheet:
        """Resolve headers and units, and check the ids.

        Parameters
        ----------
        frame
            A DataFrame with the sample ids as column or index ``sample_id``, maybe ``person_id``, ``visit``, ``date``,
            and any clinical columns, under any of their spellings; or an xarray Dataset whose variables lie along
            ``samples``; or a Sheet, which is returned as it is.
        units
            Unit by column, for columns not in their own unit. A header ``igg [mg/dL]`` or a companion column
            ``igg_unit`` (row by row; where it is empty the header's, else ``units``', else the column's own) says
            the same.
        definitions
            Definitions laid over the shipped ones; ``columns`` counts here.

        Raises
        ------
        SpecError
            No ``sample_id``; two headers of one column; an unknown unit; ``units`` for an unknown column.
        DataError
            A sample id that is missing or comes twice.
        """
        if isinstance(frame, Sheet):
            if units:
                raise SpecError("units: this sheet was read already; give them to Sheet.read with the table")
            return frame
        columns = column_dictionary(definitions)
        frame = _plain_frame(frame)
        renamed, header_units, unknown, companions = _resolve_headers(frame, columns)
        result = frame.rename(columns=renamed)
        _check_ids(result)
        divide = _divisors(result, columns, header_units, companions, dict(units or {}))
        headers = {name: str(header) for header, name in renamed.items()}
        return cls(result, columns, divide, unknown, headers)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.frame)

    @property
    def ids(self) -> pd.DataFrame:
        """``sample_id``, ``person_id``, ``visit``, ``date`` as far as they are there; ids as text, date as a date."""
        if self._ids is None:
            self._ids = self.frame[[name for name in _IDS if name in self.frame.columns]].reset_index(drop=True)
            if names.DATE in self._ids.columns:
                self._ids[names.DATE] = self._dates()
        return self._ids.copy()

    @property
    def recognised(self) -> list[str]:
        """Canonical names of the columns that are there, in the dictionary's order."""
        return [name for name in self._columns.specs if name in self.frame.columns]

    def has(self, name: str) -> bool:
        """Whether the column is there (its values may all be missing)."""
        self._known(name)
        return name in self.frame.columns

    def number(self, name: str) -> np.ndarray:
        """Float64 (n,) in the column's own unit, NaN where missing or where the column is absent. Read only.

        Raises
        ------
        DataError
            A value that can't be read, isn't allowed or is implausible: names sample, column, value and remedy.
        """
        spec = self._known(name)
        if name not in self._numbers:
            if spec["kind"] in ("id", "date", "category"):
                raise SpecError(f"column {name!r} holds no numbers (it is of kind {spec['kind']})")
            if name in self.frame.columns:
                header = self._headers.get(name, name)
                divide = self._divide.get(name)
                reader = ColumnReader(name, header, self.frame[name], self._sample_ids, self._columns, divide)
                values = reader.read()
            else:
                values = np.full(self.n, np.nan)
            values.setflags(write=False)
            self._numbers[name] = values
        return self._numbers[name]

    def flag(self, name: str) -> np.ndarray:
        """1 yes, 0 no, NaN unknown or absent; (n,). Errors as `number`."""
        if self._known(name)["kind"] != "flag":
            raise SpecError(f"column {name!r} is no flag (it is of kind {self._known(name)['kind']})")
        return self.number(name)

    def level(self, name: str) -> np.ndarray:
        """Levels as float64, NaN unknown or absent; (n,). Errors as `number`."""
        if self._known(name)["kind"] != "level":
            raise SpecError(f"column {name!r} holds no levels (it is of kind {self._known(name)['kind']})")
        return self.number(name)

    def text(self, name: str) -> np.ndarray:
        """Text as objects, None where missing or absent; (n,). Of a category, the canonical value.

        Raises
        ------
        DataError
            A value that is none of a category's.
        """
        spec = self._columns.specs.get(name, {})
        if name not in self.frame.columns:
            return np.full(self.n, None, dtype=object)
        codes, distinct = pd.factorize(self.frame[name])
        table = np.empty(len(distinct) + 1, dtype=object)
        spellings = {word: value for value, words in spec.get("values", {}).items() for word in (value, *words)}
        for place, one in enumerate(distinct):
            word = str(one).strip()
            if word.lower() in self._columns.missing:
                continue
            if spellings and word.lower() not in spellings:
                row = int(np.flatnonzero(codes == place)[0])
                raise DataError(
                    f"sample {self._sample_ids[row]!r}, column {name!r}: {word!r} is not allowed"
                    f"{did_you_mean(word, spellings)}; use {', '.join(spec['values'])}, or leave it empty"
                )
            table[place] = spellings.get(word.lower(), word)
        return table[codes]

    def check(self, only: Iterable[str] | None = None) -> None:
        """Read and check every recognised column, or those named.

        Raises
        ------
        DataError
            As `number` and `text`.
        """
        for name in self.recognised if only is None else only:
            kind = self._known(name)["kind"]
            if kind == "date":
                self._dates()
            elif kind == "category":
                self.text(name)
            elif kind != "id":
                self.number(name)

    def take(self, rows: np.ndarray) -> Sheet:
        """The sheet of some rows, by position, with what was read already kept."""
        divide = {name: by[rows] if isinstance(by, np.ndarray) else by for name, by in self._divide.items()}
        part = Sheet(self.frame.iloc[rows].reset_index(drop=True), self._columns, divide, self.unknown, self._headers)
        for name, values in self._numbers.items():
            part._numbers[name] = values[rows]
            part._numbers[name].setflags(write=False)
        return part

    def with_numbers(self, numbers: Mapping[str, np.ndarray]) -> Sheet:
        """The sheet with other values, checked and in their own unit, of columns that it has."""
        part = Sheet(self.frame, self._columns, self._divide, self.unknown, self._headers)
        part._numbers = {**self._numbers, **numbers}
        for values in numbers.values():
            values.setflags(write=False)
        return part

    def _known(self, name: str) -> dict[str, Any]:
        if name not in self._columns:
            raise SpecError(f"no clinical column {name!r}{self._columns.near(name)}")
        return self._columns.specs[name]

    def _dates(self) -> pd.Series:
        """Days, or times as the clinic's clock had them: an offset from UTC says where it hung, and is left out."""
        raw = self.frame[names.DATE].reset_index(drop=True)
        if pd.api.types.is_datetime64_any_dtype(raw.dtype):
            return raw.dt.tz_localize(None) if raw.dt.tz is not None else raw
        codes, distinct = pd.factorize(raw)
        words = pd.Series([_OFFSET.sub(r"\1", str(one).strip()) for one in distinct], dtype=object)
        absent = words.str.lower().isin(self._columns.missing) if len(words) else words.astype(bool)
        dates = pd.to_datetime(words.mask(absent), errors="coerce", format="ISO8601")
        unread = (dates.isna() & ~absent).to_numpy()
        self._refuse_date(raw, codes, unread, "is no date; write it as 2026-03-31")
        years = dates.dt.year if len(dates) else pd.Series(dtype=float)
        self._refuse_date(
            raw, codes, ((years < _YEARS[0]) | (years > _YEARS[1])).to_numpy(), "is of no year of a visit"
        )
        table = np.append(dates.to_numpy(dtype="datetime64[ns]"), np.datetime64("NaT", "ns"))
        return pd.Series(table[codes])

    def _refuse_date(self, raw: pd.Series, codes: np.ndarray, bad: np.ndarray, why: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(np.append(bad, False)[codes])[0])
            value = raw.iloc[row]
            shown = value.item() if isinstance(value, np.generic) else value
            raise DataError(
                f"sample {self._sample_ids[row]!r}, column 'date': {shown!r} {why} ({int(bad.sum()):,} distinct values "
                "like it)"
            )


def _plain_frame(frame: Any) -> pd.DataFrame:
    """The sheet as a DataFrame whose sample ids are a column."""
    if not isinstance(frame, pd.DataFrame):
        import xarray as xr

        if not isinstance(frame, xr.Dataset):
            raise SpecError(f"a sheet is a pandas DataFrame or an xarray Dataset, not {type(frame).__name__}")
        along = [name for name, one in frame.variables.items() if one.dims == (names.SAMPLES,)]
        frame = frame[along].reset_coords().to_dataframe().reset_index()
        if names.SAMPLE_ID not in frame.columns:
            frame = frame.rename(columns={names.SAMPLES: names.SAMPLE_ID})
    kept = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return (frame.reset_index(level=kept) if kept else frame).reset_index(drop=True)


def _resolve_headers(
    frame: pd.DataFrame, columns: Columns
) -> tuple[dict[Any, str], dict[str, str], dict[str, str], dict[str, str]]:
    """New names of the columns, units in headers, unknown headers, and companion columns of units."""
    renamed: dict[Any, str] = {}
    header_units: dict[str, str] = {}
    unknown: dict[str, str] = {}
    companions: dict[str, str] = {}
    taken: dict[str, Any] = {}
    # A table may call other things "sample" or "subject"; where the id has its own name, these are not the id.
    own = {name for name in _IDS if name in frame.columns}
    for header in frame.columns:
        found = columns.canonical(header)
        if found is not None and found[0] in own and header != found[0]:
            unknown[str(header)] = ""
            continue
        if found is None:
            text = str(header)
            behind = columns.canonical(text[: -len(_UNIT_SUFFIX)]) if text.lower().endswith(_UNIT_SUFFIX) else None
            if behind is not None and behind[0] not in companions:
                companions[behind[0]] = header
            else:
                unknown[text] = columns.near(header, cutoff=_NEARLY)
            continue
        name, unit = found
        if name in taken:
            raise SpecError(
                f"columns {taken[name]!r} and {header!r} both stand for {name!r}: keep one (or rename the other)"
            )
        taken[name] = header
        renamed[header] = name
        if unit is not None:
            header_units[name] = unit
    return renamed, header_units, unknown, companions


def _check_ids(frame: pd.DataFrame) -> None:
    """Ids as text; sample ids present and once each."""
    if names.SAMPLE_ID not in frame.columns:
        raise SpecError(
            f"the sheet has no column (or index) 'sample_id'; it has {', '.join(map(str, frame.columns[:12]))}"
            f"{', ...' if frame.shape[1] > 12 else ''}. Name the column that tells its rows apart 'sample_id'"
        )
    for name in (names.SAMPLE_ID, names.PERSON_ID):
        if name in frame.columns:
            frame[name] = _as_ids(frame[name])
    ids = frame[names.SAMPLE_ID]
    absent = ids.isna()
    if absent.any():
        raise DataError(
            f"row {int(np.flatnonzero(absent)[0]) + 1} of the sheet has no sample_id ({int(absent.sum()):,} such rows)"
        )
    twice = ids.duplicated()
    if twice.any():
        raise DataError(
            f"sample {ids[twice].iloc[0]!r} comes more than once ({int(twice.sum()):,} repeated rows): "
            f"each row is one sample or visit; join the rows, or give each its own sample_id"
        )


def _as_ids(series: pd.Series) -> pd.Series:
    """Ids as text, exactly as given; whole numbers without a decimal point; None where missing."""
    if pd.api.types.is_float_dtype(series.dtype):
        series = series.astype("Float64").round(6)
        whole = (series.dropna() % 1 == 0).all()
        series = series.astype("Int64") if whole else series
    text = series.to_numpy(dtype=object)
    if pd.api.types.infer_dtype(text, skipna=False) != "string":
        missing = series.isna().to_numpy(dtype=bool, na_value=True)
        text = np.array([None if no else str(one) for one, no in zip(text, missing, strict=True)], dtype=object)
    return pd.Series([one if one and not one.isspace() else None for one in text], dtype=object)


def _divisors(
    frame: pd.DataFrame,
    columns: Columns,
    header_units: dict[str, str],
    companions: dict[str, str],
    units: dict[str, str],
) -> dict[str, Any]:
    """What each column is divided by: a number, or one number a row."""
    divide: dict[str, Any] = {}
    asked: dict[str, str] = {}
    for header, unit in units.items():
        found = columns.canonical(header)
        if found is None:
            raise SpecError(f"units: no clinical column {header!r}{columns.near(header)}")
        asked[found[0]] = unit
    for name in dict.fromkeys((*header_units, *asked)):
        if name in header_units and name in asked:
            in_header = columns.divisor(name, header_units[name], f"the header of {name!r}")
            if in_header != columns.divisor(name, asked[name], "units"):
                raise SpecError(
                    f"column {name!r} is in {header_units[name]} by its header and in {asked[name]} by units: keep one"
                )
        where, unit = ("units", asked[name]) if name in asked else ("header", header_units[name])
        by = columns.divisor(name, unit, where)
        if by != 1:
            divide[name] = by
    for name, header in companions.items():
        if name not in frame.columns:
            continue
        codes, distinct = pd.factorize(frame[header])
        table = np.full(len(distinct) + 1, float(divide.get(name, 1.0)))
        for place, unit in enumerate(distinct):
            if str(unit).strip().lower() not in columns.missing:
                table[place] = columns.divisor(name, unit, f"column {header!r}")
        divide[name] = table[codes]
    return divide
