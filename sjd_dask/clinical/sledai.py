"""SLEDAI-2K by the same engine: an index that is nothing but a definition."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.measures import Measure, interval_columns, text_kept
from sjd_dask.clinical.reasons import missing_reason
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.weighted_sum import can_be_made, checked_sum, item_names, strata, use_recorded, weighted_sum


def sledai(sheet: Sheet, *, definitions: Overrides | None = None) -> pd.DataFrame:
    """SLEDAI-2K: points of 24 descriptors summed, 0 to 105.

    Parameters
    ----------
    sheet
        The visits; each descriptor 0 or 1, or 0 or its points (both are read).
    definitions
        ``sledai`` counts here.

    Returns
    -------
    pandas.DataFrame
        ``sledai`` (NaN where missing descriptors leave it open), ``sledai_min``, ``sledai_max``, ``sledai_known``,
        ``sledai_items``, ``sledai_activity``, ``sledai_recorded`` (the recorded total), ``sledai_reason``. A total
        recorded as ``sledai`` counts where descriptors are missing and it fits the known ones; where all are known the
        sum counts, and the reason says that they disagree.

    Raises
    ------
    DataError
        A descriptor that is neither 0, 1 nor its points.

    References
    ----------
    Gladman et al. 2002, J Rheumatol 29:288 (K).
    """
    definition = checked_sum(load_definition("sledai", definitions), "sledai")
    items = item_names(definition)
    levels = np.array([sheet.level(item) for item in items]).T
    summed = weighted_sum(levels, definition, items)
    column = definition["recorded"]["column"]
    recorded = sheet.number(column)
    reason = missing_reason(~np.isnan(levels), items)
    possible = can_be_made(recorded, levels, definition, items)
    summed, reason = use_recorded(summed, recorded, float(definition["recorded"]["tolerance"]), reason, possible)
    least, most = summed["min"].to_numpy(), summed["max"].to_numpy()
    return text_kept(
        {
            "sledai": summed["value"],
            "sledai_min": least,
            "sledai_max": most,
            "sledai_known": summed["known"],
            "sledai_items": summed["items"],
            "sledai_activity": strata(least, most, definition),
            "sledai_recorded": recorded,
            "sledai_reason": reason,
        }
    )


_COLUMNS = interval_columns("sledai", "SLEDAI-2K")
MEASURE = Measure(
    name="sledai",
    function=sledai,
    title="SLEDAI-2K, lupus activity (0-105), for overlap disease",
    needs=(
        *("seizure", "psychosis", "organic_brain_syndrome", "visual_disturbance", "cranial_nerve_disorder"),
        *("lupus_headache", "cva", "vasculitis", "arthritis", "myositis", "urinary_casts", "hematuria", "proteinuria"),
        *("pyuria", "new_rash", "alopecia", "mucosal_ulcers", "pleurisy", "pericarditis", "low_complement"),
        *("increased_dna_binding", "fever", "thrombocytopenia", "leukopenia", "sledai"),
    ),
    columns={
        **{name: text for name, text in _COLUMNS.items() if name != "sledai_reason"},
        "sledai_activity": ("text", "none, mild, moderate, high or very_high; missing where the interval spans two"),
        "sledai_recorded": ("number", "the total as the sheet has it"),
        "sledai_reason": _COLUMNS["sledai_reason"],
    },
)
