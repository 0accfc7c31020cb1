"""One column of a sheet as float64: words read, units converted, and what can't be refused by sample and column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from sjd_dask.clinical.columns import Columns
from sjd_dask.errors import DataError


@dataclass(frozen=True)
class ColumnReader:
    """Reads one column of numbers, levels or flags.

    Attributes
    ----------
    name, header
        Canonical name; what the sheet calls it.
    raw
        The values as given.
    ids
        (n,) sample ids, for messages.
    columns
        The column dictionary.
    divide
        What values are divided by to stand in the column's own unit: a number, one a row, or None.
    """

    name: str
    header: str
    raw: pd.Series
    ids: np.ndarray
    columns: Columns
    divide: float | np.ndarray | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """The dictionary's entry."""
        return self.columns.specs[self.name]

    def read(self) -> np.ndarray:
        """Float64 (n,) in the column's own unit, NaN where missing.

        Raises
        ------
        DataError
            A value that can't be read, isn't allowed or is implausible: names sample, column, value, what is allowed
            and, where another unit would make it plausible, that unit.
        """
        values = self._floats()
        if np.isinf(values).any():
            self._refuse(np.isinf(values), "is not a finite number; leave a missing value empty")
        if self.divide is not None:
            values = values / self.divide
        if self.spec["kind"] in ("flag", "level"):
            return self._on_levels(values)
        known = ~np.isnan(values)
        if "range" in self.spec:
            low, high = self.spec["range"]
            # A conversion rounds: 0.01 g/dL is 0.1 g/L but for the last digit, and at the end of the range.
            below, above = (1e-9 * max(1.0, abs(end)) for end in (low, high))
            bad = known & ((values < low - below) | (values > high + above))
            if bad.any():
                self._refuse(bad, self._implausible(float(values[bad][0])))
        if self.spec.get("integer") and (bad := known & (values != np.round(values))).any():
            self._refuse(bad, "is no whole number, and this column holds whole numbers")
        return values

    def _refuse(self, bad: np.ndarray, why: str) -> NoReturn:
        rows = np.flatnonzero(bad)
        more = "" if len(rows) == 1 else f" (and {len(rows) - 1:,} more in this column)"
        value = self.raw.iloc[rows[0]]
        shown = value.item() if isinstance(value, np.generic) else value
        called = "" if self.header == self.name else f" ({self.header!r} in the sheet)"
        raise DataError(f"sample {self.ids[rows[0]]!r}, column {self.name!r}{called}: {shown!r} {why}{more}")

    def _floats(self) -> np.ndarray:
        kind = self.raw.dtype
        if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_numeric_dtype(kind):
            return self.raw.to_numpy(dtype=np.float64, na_value=np.nan)
        if pd.api.types.is_datetime64_any_dtype(kind):
            self._refuse(np.ones(len(self.raw), dtype=bool), "is a date, not a number")
        return self._words()

    def _words(self) -> np.ndarray:
        """Text to numbers, through the distinct texts only."""
        codes, distinct = pd.factorize(self.raw)
        words = [str(text).strip().lower() for text in distinct]
        table = np.append(pd.to_numeric(pd.Series(words, dtype=object), errors="coerce").to_numpy(np.float64), np.nan)
        known = self.columns.words if self.spec["kind"] == "flag" else dict.fromkeys(self.columns.missing, np.nan)
        unread = np.zeros(len(table), dtype=bool)
        for place in np.flatnonzero(np.isnan(table[:-1])):
            table[place] = known.get(words[place], np.nan)
            unread[place] = words[place] not in known
        if unread.any():
            flag = "yes or no (1/0, true/false, yes/no, positive/negative)"
            wanted = flag if self.spec["kind"] == "flag" else "a number with a decimal point"
            self._refuse(unread[codes], f"can't be read; write {wanted}, or leave it empty where it is missing")
        return table[codes]

    def _on_levels(self, values: np.ndarray) -> np.ndarray:
        recode = self.spec.get("recode")
        allowed = [0, 1] if self.spec["kind"] == "flag" else list(recode or self.spec["levels"])
        good = np.isnan(values)
        for level in allowed:  # few levels: a comparison each is several times quicker than np.isin
            good |= values == float(level)
        if not good.all():
            kind = "a flag, 0 or 1" if self.spec["kind"] == "flag" else f"one of {', '.join(map(str, allowed))}"
            self._refuse(~good, f"is not allowed: it is {kind}")
        if not recode:
            return values
        result = values.copy()
        for given, meant in recode.items():
            result[values == float(given)] = float(meant)
        return result

    def _implausible(self, value: float) -> str:
        low, high = self.spec["range"]
        own = self.spec.get("unit", "")
        unit = "" if own == "score" else f" {own}"
        others = [
            other
            for other, divide in self.spec.get("units", {}).items()
            if other != own and low <= value / divide <= high
        ]
        remedy = "correct it, or leave it empty where it is missing"
        if others and self.divide is None:
            said = f"--units {self.name}={others[0]}, or units={{{self.name!r}: {others[0]!r}}}"
            remedy = f"it would be plausible in {' or '.join(others)}: say {said}"
        return f"is implausible: {value:.6g}{unit} is outside {low:g} to {high:g}{unit}; {remedy}"
