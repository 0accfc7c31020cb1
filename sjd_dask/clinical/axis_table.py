"""Axes in long form: a row for each visit and axis, as figures and tables by axis want them."""

from __future__ import annotations

import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.axis_dominance import AXES
from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.errors import SpecError

_IDS = (names.SAMPLE_ID, names.PERSON_ID, names.VISIT, names.DATE)
_ENDS = ("position", "position_min", "position_max", "percentile", "percentile_min", "percentile_max")


def axis_table(scored: pd.DataFrame, *, definitions: Overrides | None = None) -> pd.DataFrame:
    """The result of the measure `axes`, one row a visit and axis.

    Parameters
    ----------
    scored : DataFrame (n rows)
        With the columns ``axisN_...``, ids and ``dominant``.

    Returns
    -------
    DataFrame (3 n rows)
        The ids there are; ``axis`` (systemic, gland, symptoms), ``number``, ``title``, ``unit``, ``state``,
        ``position``, ``position_min``, ``position_max``, ``percentile`` with ``_min`` and ``_max``, ``is_dominant``
        (missing where the dominant axis is open), ``reason``. Rows of a visit stand together, in the order of the axes.

    Raises
    ------
    SpecError
        The axes weren't scored.
    """
    if "axis1_state" not in scored or "dominant" not in scored:
        raise SpecError("no columns of axes here: score the measure `axes` first")
    own = load_definition("axes", definitions)["axes"]
    ids = [name for name in _IDS if name in scored]
    dominant = scored["dominant"].astype(object)
    parts = []
    for number, axis in enumerate(AXES, start=1):
        part = scored[ids].copy()
        part["axis"], part["number"] = axis, number
        part["title"], part["unit"] = own[axis]["title"], own[axis]["unit"]
        part["state"] = scored[f"axis{number}_state"]
        for end in _ENDS:
            part[end] = scored[f"axis{number}_{end}"]
        part["is_dominant"] = (dominant == axis).astype("boolean").mask(dominant.isna())
        part["reason"] = scored[f"axis{number}_reason"]
        parts.append(part.assign(_row=range(len(part))))
    table = pd.concat(parts, ignore_index=True).sort_values(["_row", "number"], kind="stable", ignore_index=True)
    return table.drop(columns="_row")
