"""Salivary gland ultrasound: OMERACT grades of four glands, and the total of Hocevar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.carry import EARLIER, carried
from sjd_dask.clinical.definitions import load_definition
from sjd_dask.clinical.gland_tests import cut, in_words, read_test
from sjd_dask.clinical.measures import Measure, carried_column, interval_columns
from sjd_dask.clinical.reasons import missing_reason
from sjd_dask.clinical.sheet import Sheet


def sgus(
    sheet: Sheet,
    *,
    definitions: Mapping[str, Any] | None = None,
    carry: Sequence[str] | str | None = None,
    carry_from: str = EARLIER,
) -> pd.DataFrame:
    """Ultrasound of the salivary glands of each row.

    Parameters
    ----------
    sheet : Sheet
        ``sgus_parotid_right``, ``sgus_parotid_left``, ``sgus_submandibular_right``, ``sgus_submandibular_left``
        (OMERACT, 0-3) and ``sgus_hocevar`` (0-48).
    definitions : mapping, optional
        ``glands``: a table in place of ``definitions/glands.yaml``.
    carry, carry_from
        Tests that a row takes from the person's other visits, as for `acr_eular`; then ``sgus_carried`` says which.

    Returns
    -------
    DataFrame
        ``sgus`` (sum of four glands, 0-12; NaN while a gland is missing), ``sgus_min``, ``sgus_max``, ``sgus_known``,
        ``sgus_items``, ``sgus_reason``, ``sgus_positive`` (positive, negative, unknown: by the OMERACT grades),
        ``sgus_hocevar_positive`` (the same, by Hocevar's total).

    Notes
    -----
    Positive where one gland is, negative where all four are known and none is.

    References
    ----------
    OMERACT: sum 0-12 (K), positive at >= 2 in at least one gland (P). Hocevar et al. 2005, cut-off 17 (K).
    """
    table = load_definition("glands", definitions)
    taken = carried(sheet, carry, carry_from, definitions)
    sheet = taken.sheet
    graded = table["ultrasound_sum"]
    levels = np.column_stack([sheet.level(name) for name in graded])
    known = ~np.isnan(levels)
    lowest, highest = (np.array([float(ends(one["levels"])) for one in graded.values()]) for ends in (min, max))
    low = np.where(known, levels, lowest).sum(axis=1)
    high = np.where(known, levels, highest).sum(axis=1)
    hocevar = table["hocevar"]
    told = {} if carry is None else {"sgus_carried": taken.told([*graded, str(hocevar["column"])])}
    return pd.DataFrame(
        {
            "sgus": np.where(low == high, low, np.nan),
            "sgus_min": low,
            "sgus_max": high,
            "sgus_known": known.sum(axis=1),
            "sgus_items": np.full(sheet.n, len(graded)),
            "sgus_reason": missing_reason(known, list(graded)),
            "sgus_positive": in_words(read_test(sheet, table["tests"]["ultrasound"]["test"]).answer),
            "sgus_hocevar_positive": in_words(cut(sheet.number(str(hocevar["column"])), hocevar)),
            **told,
        },
        index=sheet.frame.index,
    )


SGUS = Measure(
    name="sgus",
    function=sgus,
    title="salivary gland ultrasound: OMERACT sum and positivity, Hocevar's total",
    needs=(
        "sgus_parotid_right", "sgus_parotid_left", "sgus_submandibular_right", "sgus_submandibular_left",
        "sgus_hocevar",
    ),
    also=carried_column("sgus"),
    columns={
        **interval_columns("sgus", "OMERACT grades of four glands, sum, 0-12"),
        "sgus_positive": ("text", "positive, negative or unknown, by the OMERACT grades"),
        "sgus_hocevar_positive": ("text", "positive, negative or unknown, by Hocevar's total"),
    },
)  # fmt: skip
