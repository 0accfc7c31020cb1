"""How many of those screened could enter, by class, axis and site, and how many must be screened for a trial."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.clinical.trials.eligibility import NO, UNDETERMINED, YES, Eligibility
from sjd_dask.clinical.trials.randomise import level_text
from sjd_dask.errors import SpecError

ALL = "all"
LEVEL = 0.95
_MOST_LEVELS = 400


def feasibility(
    frame: pd.DataFrame, found: Eligibility, *, by: Sequence[str] = (), needed: int | None = None
) -> pd.DataFrame:
    """Counts of the screened by group, with how many to screen.

    Parameters
    ----------
    frame : DataFrame (n rows)
        The rows that were judged, in the same order.
    found : Eligibility
    by : sequence of str
        Columns to count by, each by itself; a missing value is the level ``unknown``.
    needed : int, optional
        Persons the trial needs.

    Returns
    -------
    DataFrame
        A row for all (``by`` and ``level`` are ``all``), then one for each level: ``screened``, ``eligible``,
        ``undetermined``, ``not_eligible``; ``share_of_screened`` (of the group among all screened) and
        ``share_of_eligible`` (of the group among all eligible); ``eligible_share`` with ``eligible_share_low`` and
        ``_high``: a 95 % Wilson interval of the eligible among the decided; ``eligible_share_least`` and ``_most``:
        were all undetermined not eligible, or all eligible. With ``needed``: ``to_screen``, persons to screen (of every
        group) so that ``needed`` eligible ones of this group are found, and ``to_screen_low`` and ``_high`` by the 95 %
        Wilson interval of the group's eligible among all decided; missing where none is eligible.

    Raises
    ------
    SpecError
        A column that isn't there.
    """
    known = [str(one) for one in frame.columns]
    for column in by:
        if column not in frame:
            raise SpecError(
                f"`feasibility: by` names the column {column!r}, which does not exist{did_you_mean(column, known)}; "
                f"there are: {', '.join(known[:30])}"
            )
        if list(by).count(column) > 1:
            raise SpecError(f"`feasibility: by` names the column {column!r} twice: name it once")
    verdict = found.verdict
    rows = [_counts(ALL, ALL, verdict)]
    for column in by:
        levels = level_text(frame[column])
        if len(set(levels)) > _MOST_LEVELS:
            raise SpecError(
                f"`feasibility: by` names {column!r}, which has {len(set(levels)):,} different values: take a column "
                "of groups, such as the state of an axis in place of its position"
            )
        rows += [_counts(column, level, verdict[levels == level]) for level in sorted(set(levels))]
    table = pd.DataFrame(rows)
    table["share_of_screened"] = table["screened"] / max(len(verdict), 1)
    table["share_of_eligible"] = table["eligible"] / max(int((verdict == YES).sum()), 1)
    decided = (table["eligible"] + table["not_eligible"]).to_numpy()
    low, high = _wilson(table["eligible"].to_numpy(), decided)
    with np.errstate(invalid="ignore", divide="ignore"):
        table["eligible_share"] = table["eligible"].to_numpy() / np.where(decided > 0, decided, np.nan)
    table["eligible_share_low"], table["eligible_share_high"] = low, high
    table["eligible_share_least"] = table["eligible"] / table["screened"]
    table["eligible_share_most"] = (table["eligible"] + table["undetermined"]) / table["screened"]
    if needed is not None:
        eligible, everyone = table["eligible"].to_numpy(), np.full(len(table), decided[0])
        low, high = _wilson(eligible, everyone)
        for name, share in (("to_screen", eligible / np.maximum(everyone, 1)), ("to_screen_low", high),
                            ("to_screen_high", low)):  # fmt: skip
            # Rounding must not ask for one person more: 30 / 0.3 is 100.
            asked = np.ceil(needed / np.where(share > 0, share, np.nan) - 1e-9)
            table[name] = pd.array(np.where(eligible > 0, asked, np.nan), dtype="Int64")
    return table


def _counts(by: str, level: str, verdict: np.ndarray) -> dict[str, object]:
    return {
        "by": by,
        "level": level,
        "screened": len(verdict),
        "eligible": int((verdict == YES).sum()),
        "undetermined": int((verdict == UNDETERMINED).sum()),
        "not_eligible": int((verdict == NO).sum()),
    }


def _wilson(found: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from statsmodels.stats.proportion import proportion_confint

    low, high = np.full(len(total), np.nan), np.full(len(total), np.nan)
    some = total > 0
    if some.any():
        low[some], high[some] = proportion_confint(found[some], total[some], 1 - LEVEL, method="wilson")
    # None and all are ends of the range; the formula reaches them but for rounding.
    return np.where(some & (found == 0), 0.0, low), np.where(some & (found == total), 1.0, high)
