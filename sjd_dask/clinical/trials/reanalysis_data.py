"""The table of a finished trial as checked numbers: who was in which arm, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.clinical.trials.randomise import level_text
from sjd_dask.errors import DataError, SpecError

Floats = NDArray[np.float64]
CONTINUOUS, BINARY = "continuous", "binary"
_CONTROLS = ("placebo", "control")


@dataclass(frozen=True)
class TrialData:
    """Persons with an outcome: endpoint, arm (0 is the control), names of the arms, baseline or None, kind."""

    y: Floats
    arm: NDArray[np.int64]
    arms: list[str]
    baseline: Floats | None
    kind: str

    def part(self, keep: NDArray[np.bool_]) -> TrialData:
        """Some of the persons."""
        x = None if self.baseline is None else self.baseline[keep]
        return TrialData(self.y[keep], self.arm[keep], self.arms, x, self.kind)


def check_columns(table: pd.DataFrame, endpoint: str, arm: str, baseline: str | None, by: Sequence[str]) -> None:
    """Refuse columns that aren't there or stand for two things, and a person with two rows.

    Raises
    ------
    SpecError, DataError
    """
    asked = (("endpoint", endpoint), ("arm", arm), ("baseline", baseline), *(("by", one) for one in by))
    for key, column in asked:
        if column is not None and column not in table:
            raise SpecError(
                f"`reanalysis: {key}` names the column {column!r}, which the trial's table lacks"
                f"{did_you_mean(column, table.columns)}; it has: {', '.join(map(str, table.columns[:30]))}"
            )
    taken: dict[str, str] = {}
    for key, column in asked:
        if column is not None and column in taken:
            raise SpecError(
                f"`reanalysis: {key}` and `reanalysis: {taken[column]}` both name the column {column!r}: name it once"
            )
        if column is not None:
            taken[column] = key
    who_column = next((one for one in (names.PERSON_ID, names.SAMPLE_ID) if one in table), None)
    if who_column is None:
        return
    twice = table[who_column].notna() & table[who_column].duplicated()
    if twice.any():
        raise DataError(
            f"{who_column} {table.loc[twice, who_column].iloc[0]!r} has more than one row in the trial's table "
            f"({int(twice.sum())} rows too many): each person randomised has one; keep that of the endpoint's visit"
        )


def numbers(table: pd.DataFrame, column: str) -> Floats:
    """A column as numbers, (n,); NaN where missing.

    Raises
    ------
    DataError
        Anything else, with the person.
    """
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero((np.isnan(values) & table[column].notna().to_numpy()) | np.isinf(values))
    if wrong.size:
        raise DataError(
            f"{who(table, wrong[0])}: {column!r} is {table[column].iloc[wrong[0]]!r}, which is no number{more(wrong)}; "
            "write numbers (yes and no as 1 and 0), and leave a cell empty where it is missing"
        )
    return values


def arms_of(
    table: pd.DataFrame, column: str, control: str | None, sequence: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], list[str]]:
    """Each person's arm as a place in the list of arms, (n,), and that list: the control first.

    Raises
    ------
    SpecError, DataError
    """
    gone = np.flatnonzero(table[column].isna())
    if gone.size:
        raise DataError(
            f"{who(table, gone[0])}: no arm in the column {column!r}{more(gone)}; everyone randomised has one"
        )
    text = level_text(table[column])
    known = sorted(set(text))
    alike: dict[str, str] = {}
    for one in known:
        other = alike.setdefault(" ".join(one.split()).casefold(), one)
        if other != one:
            raise DataError(
                f"the column {column!r} holds {other!r} and {one!r}, which would be two arms: write an arm in one way"
            )
    if control is None:
        named = [one for one in known if one.casefold() in _CONTROLS]
        if len(named) != 1:
            raise SpecError(
                f"`reanalysis: control` is not given, and of the arms {', '.join(known)} not exactly one is called "
                f"{' or '.join(_CONTROLS)}: name the arm that the others are compared with"
            )
        control = named[0]
    if control not in known:
        raise SpecError(
            f"`reanalysis: control` is {control!r}, and the column {column!r} holds {', '.join(known)}"
            f"{did_you_mean(control, known)}"
        )
    if len(known) < 2:
        raise DataError(f"the column {column!r} holds one arm only, {control!r}: there is nothing to compare it with")
    arms = arm_order(sequence, [control, *(one for one in known if one != control)])
    return np.array([arms.index(one) for one in text], dtype=np.int64), arms


def arm_order(given: Sequence[str] | None, arms: list[str]) -> list[str]:
    """The arms, the control first, the others in the order given; each of them is named once.

    Raises
    ------
    SpecError
    """
    if given is None:
        return arms
    if sorted(given) != sorted(arms[1:]):
        raise SpecError(
            f"`reanalysis: sequence` is {', '.join(given) or 'empty'}: name each arm but the control once, in the "
            f"order in which they are tested ({', '.join(arms[1:])})"
        )
    return [arms[0], *given]


def who(table: pd.DataFrame, row: Any) -> str:
    """The person of a row, for a message."""
    for name in ("person_id", "sample_id"):
        if name in table:
            return f"{name} {table[name].iloc[row]!r}"
    return f"row {int(row) + 1}"


def more(rows: NDArray[Any]) -> str:
    """How many rows there are beside the first, for a message."""
    return f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""


def counts_by_arm(
    by: str, levels: NDArray[Any], codes: NDArray[np.int64], arms: list[str], y: Floats, x: Floats | None
) -> pd.DataFrame:
    """Persons randomised and analysed, by level and arm."""
    rows = []
    no_x = np.zeros(len(y), dtype=bool) if x is None else np.isnan(x)
    for level in sorted(set(levels)):
        for i, name in enumerate(arms):
            here = (levels == level) & (codes == i)
            rows.append(
                {
                    "by": by, "level": level, "arm": name, "randomised": int(here.sum()),
                    "analysed": int((here & ~np.isnan(y) & ~no_x).sum()),
                    "without_endpoint": int((here & np.isnan(y)).sum()), "without_baseline": int((here & no_x).sum()),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)
