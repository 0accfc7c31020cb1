"""ESSPRI: what the patient reports, as the mean of three scales."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.kept import kept_by_sheet
from sjd_dask.clinical.measures import Measure, interval_columns, text_kept
from sjd_dask.clinical.reasons import missing_reason
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.threeway import below
from sjd_dask.clinical.weighted_sum import checked_sum, item_names, use_recorded, weighted_sum


@kept_by_sheet
def esspri(sheet: Sheet, *, definitions: Overrides | None = None) -> pd.DataFrame:
    """ESSPRI: mean of dryness, fatigue and pain, 0 to 10.

    Parameters
    ----------
    sheet
        The visits; the three scales 0 to 10.
    definitions
        ``esspri`` counts here.

    Returns
    -------
    pandas.DataFrame
        ``esspri`` (NaN where a missing scale leaves it open), ``esspri_min``, ``esspri_max``, ``esspri_known``,
        ``esspri_items``, ``esspri_acceptable`` (1 where it is surely below 5, 0 where it surely isn't, else NaN),
        ``esspri_reason``. A mean recorded as ``esspri`` counts where scales are missing and it fits the known ones.

    Raises
    ------
    DataError
        A value outside 0 to 10.

    References
    ----------
    Seror et al. 2011, Ann Rheum Dis 70:968: mean of three (P). Seror et al. 2016, Ann Rheum Dis 75:382: acceptable
    below 5, improvement by 1 point or 15 % (P).
    """
    definition = checked_sum(load_definition("esspri", definitions), "esspri")
    items = item_names(definition)
    levels = np.array([sheet.number(item) for item in items]).T
    summed = weighted_sum(levels, definition, items)
    reason = missing_reason(~np.isnan(levels), items)
    column = definition["recorded"]["column"]
    if sheet.has(column):
        summed, reason = use_recorded(summed, sheet.number(column), float(definition["recorded"]["tolerance"]), reason)
    least, most = summed["min"].to_numpy(), summed["max"].to_numpy()
    cut = float(definition["acceptable"]["below"])
    surely, possibly = below(most, cut), below(least, cut)
    return text_kept(
        {
            "esspri": summed["value"],
            "esspri_min": least,
            "esspri_max": most,
            "esspri_known": summed["known"],
            "esspri_items": summed["items"],
            "esspri_acceptable": np.where(surely == possibly, surely, np.nan),
            "esspri_reason": reason,
        }
    )


_COLUMNS = interval_columns("esspri", "ESSPRI")
MEASURE = Measure(
    name="esspri",
    function=esspri,
    title="ESSPRI, symptoms as the patient reports them (0-10)",
    needs=("dryness", "fatigue", "pain", "esspri"),
    columns={
        **{name: text for name, text in _COLUMNS.items() if name != "esspri_reason"},
        "esspri_acceptable": ("flag", "acceptable symptom state: surely below 5 yes, surely not no, else missing"),
        "esspri_reason": _COLUMNS["esspri_reason"],
    },
)
