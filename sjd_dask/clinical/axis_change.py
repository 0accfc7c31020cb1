"""How a person moved on the axes since another visit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.axes import MEASURE as AXES_MEASURE
from sjd_dask.clinical.axes import axes
from sjd_dask.clinical.axis_reference import AxisReference
from sjd_dask.clinical.definitions import Overrides, did_you_mean
from sjd_dask.clinical.measures import Measure
from sjd_dask.clinical.reasons import missing_reason, texts_at
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.threeway import any_of
from sjd_dask.clinical.visits import sheet_baselines, sheet_previous
from sjd_dask.errors import SpecError

_SINCE = ("previous", "baseline")


def axes_change(
    sheet: Sheet,
    *,
    since: Literal["previous", "baseline"] = "previous",
    baseline: str | None = None,
    reference: AxisReference | Mapping[str, Any] | str | Path | None = None,
    definitions: Overrides | None = None,
    domains: Sequence[str] | str | None = None,
    laboratory: str = "propose",
) -> pd.DataFrame:
    """Change of states, positions and of the dominant axis against another visit of the person.

    Parameters
    ----------
    sheet : Sheet
        As in `axes`, with ``person_id`` and what orders visits (``date`` or ``visit``).
    since : {"previous", "baseline"}
        The visit before, or the person's baseline.
    baseline : str, optional
        Query of the rows that are baselines; then `since` is the baseline.
    reference, definitions, domains, laboratory
        As in `axes`.

    Returns
    -------
    DataFrame
        ``axes_since`` (sample id of the earlier visit, None where there is none); for N = 1, 2, 3 ``axisN_change``
        (later less earlier position; NaN where open), its ``_min`` and ``_max`` under the missing items of both visits,
        ``axisN_moved`` (``inactive -> active``; empty where the state is the same, None where open);
        ``dominant_moved``; ``axes_changed`` (1 where a state did, 0 where none did, NaN open); ``axes_change_reason``
        (axes whose move is open, or that there is no earlier visit).

    Raises
    ------
    DataError
        Nothing tells which of two visits of a person is earlier.
    SpecError
        An unknown `since`.
    """
    if since not in _SINCE:
        raise SpecError(f"since: {since!r}{did_you_mean(since, _SINCE)}; use {' or '.join(_SINCE)}")
    if baseline is not None or since == "baseline":
        found = sheet_baselines(sheet, baseline)
        before = np.where(found.follows, found.position, -1)
    else:
        before = sheet_previous(sheet)
    now = axes(sheet, reference=reference, definitions=definitions, domains=domains, laboratory=laboratory)
    there = before >= 0
    columns: dict[str, Any] = {
        "axes_since": np.append(sheet.frame[names.SAMPLE_ID].to_numpy(dtype=object), None)[before]
    }
    same = []
    for axis in ("axis1", "axis2", "axis3"):
        low, high = (now[f"{axis}_position_{end}"].to_numpy(dtype=np.float64) for end in ("min", "max"))
        least, most = (np.where(there, one, np.nan) for one in (low - high[before], high - low[before]))
        columns[f"{axis}_change"] = np.where(least == most, least, np.nan)
        columns |= {f"{axis}_change_min": least, f"{axis}_change_max": most}
        unsure = _evidence_unsure(now, before) if axis == "axis3" else None
        columns[f"{axis}_moved"], moved = _moved(now[f"{axis}_state"], before, unsure)
        same.append(moved)
    columns["dominant_moved"], _ = _moved(now["dominant"], before)
    columns["axes_changed"] = any_of(*same)
    shown = missing_reason(~np.isnan(np.column_stack(same)), ["systemic", "gland", "symptoms"], "open: ")
    columns["axes_change_reason"] = np.where(there, shown, "no earlier visit")
    return pd.DataFrame(columns)


def _evidence_unsure(now: pd.DataFrame, before: np.ndarray) -> np.ndarray:
    """Rows with a high burden at both visits of which one lacks the evidence to tell amplification."""
    burden, amplified = (now[f"axis3_{name}"].to_numpy() for name in ("high_burden", "amplification"))
    return (burden == 1) & (burden[before] == 1) & (np.isnan(amplified) | np.isnan(amplified[before]))


def _moved(states: pd.Series, before: np.ndarray, unsure: np.ndarray | None = None) -> tuple[Any, np.ndarray]:
    """The states before and after where they differ, and whether they do: 1, 0, NaN (also where `unsure`)."""
    codes, different = pd.factorize(states)
    k = len(different)
    earlier = np.where(before >= 0, codes[before], -1) if len(codes) else codes
    known = (codes >= 0) & (earlier >= 0)
    if unsure is not None:
        known &= ~unsure
    pair = np.where(known, np.where(codes == earlier, k * k, earlier * k + codes), k * k + 1)
    texts = [f"{one} -> {other}" for one in different for other in different]
    return texts_at(pair, [*texts, "", None]), np.where(known, (codes != earlier).astype(np.float64), np.nan)


_AXES = {
    1: ("systemic activity, ESSDAI points", "state of systemic activity"),
    2: ("glands, 0 to 1", "state of the glands"),
    3: ("symptoms, ESSPRI points", "state of symptoms"),
}
MEASURE = Measure(
    name="axes_change",
    function=axes_change,
    title="change on the three axes since the visit before, or since the baseline",
    by_person=True,
    needs=AXES_MEASURE.needs,
    columns={
        "axes_since": ("text", "sample id of the earlier visit; missing where there is none"),
        **{
            name: text
            for number, (position, state) in _AXES.items()
            for name, text in {
                f"axis{number}_change": ("number", f"change of position, {position}; missing where open"),
                f"axis{number}_change_min": ("number", "least change under the missing items of both visits"),
                f"axis{number}_change_max": ("number", "greatest change under the missing items of both visits"),
                f"axis{number}_moved": ("text", f"{state} before and after; empty where the same, missing where open"),
            }.items()
        },
        "dominant_moved": ("text", "dominant axis before and after; empty where the same, missing where open"),
        "axes_changed": ("flag", "whether a state changed; missing where open"),
        "axes_change_reason": ("text", "axes whose move is open, or that there is no earlier visit"),
    },
)
