"""Objective gland tests, each positive, negative or unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.carry import EARLIER, carried
from sjd_dask.clinical.definitions import load_definition
from sjd_dask.clinical.gland_tests import in_words, read_test, test_columns
from sjd_dask.clinical.measures import Measure, carried_column, interval_columns
from sjd_dask.clinical.reasons import join_reasons, missing_reason
from sjd_dask.clinical.sheet import Sheet


def gland_answers(sheet: Sheet, *, definitions: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Each test of ``definitions/glands.yaml``: 1 positive, 0 negative, NaN unknown, (n,) each."""
    tests = load_definition("glands", definitions)["tests"]
    return {name: read_test(sheet, one["test"]).answer for name, one in tests.items()}


def glands(
    sheet: Sheet,
    *,
    definitions: Mapping[str, Any] | None = None,
    carry: Sequence[str] | str | None = None,
    carry_from: str = EARLIER,
) -> pd.DataFrame:
    """Tear and salivary gland tests of each row.

    Parameters
    ----------
    sheet : Sheet
        Schirmer (mm / 5 min), ocular staining score, van Bijsterveld score (per eye, or one value as recorded, read as
        the worse eye), unstimulated saliva (mL/min), focus score (per 4 mm2), OMERACT grades of four glands; any may be
        absent.
    definitions : mapping, optional
        ``glands``: a table in place of ``definitions/glands.yaml``.
    carry, carry_from
        Tests that a row takes from the person's other visits, as for `acr_eular`; then ``glands_carried`` says which.

    Returns
    -------
    DataFrame
        ``glands`` (how many tests are positive; NaN while one is unknown), ``glands_min``, ``glands_max``,
        ``glands_known``, ``glands_items``, ``glands_reason`` (tests not recorded, and values that contradict each
        other), ``glands_<test>`` (positive, negative, unknown) and for tests of eyes ``glands_<test>_right`` and
        ``_left``.

    Notes
    -----
    A test of eyes is positive where one eye is, negative where both are known and neither is. Serology is no gland
    test.

    References
    ----------
    Shiboski et al. 2017 (P) for eyes, saliva and focus score; OMERACT ultrasound >= 2 in at least one gland (P).
    """
    tests = load_definition("glands", definitions)["tests"]
    taken = carried(sheet, carry, carry_from, definitions)
    sheet = taken.sheet
    readings = {name: read_test(sheet, one["test"]) for name, one in tests.items()}
    matrix = np.column_stack([one.answer for one in readings.values()])
    known = ~np.isnan(matrix)
    low = (matrix == 1).sum(axis=1).astype(float)
    high = low + (~known).sum(axis=1)
    reason = missing_reason(known, list(readings))
    said = [text for name, one in readings.items() for text in one.notes(name)]
    reason = join_reasons(reason, *said) if said else reason
    columns: dict[str, Any] = {
        "glands": np.where(low == high, low, np.nan),
        "glands_min": low,
        "glands_max": high,
        "glands_known": known.sum(axis=1),
        "glands_items": np.full(sheet.n, len(readings)),
        "glands_reason": reason,
    }
    for name, reading in readings.items():
        columns[f"glands_{name}"] = in_words(reading.answer)
        columns |= {f"glands_{name}_{eye}": in_words(own) for eye, own in reading.eyes.items()}
    if carry is not None:
        columns["glands_carried"] = taken.told(one for test in tests.values() for one in test_columns(test["test"]))
    return pd.DataFrame(columns, index=sheet.frame.index)


_ANSWER = ("text", "positive, negative or unknown")
_OF_EYES = ("schirmer", "oss", "van_bijsterveld")

GLANDS = Measure(
    name="glands",
    function=glands,
    title="objective tests of tear and salivary glands, each positive, negative or unknown",
    needs=(
        "schirmer_right", "schirmer_left", "schirmer", "oss_right", "oss_left", "oss", "van_bijsterveld_right",
        "van_bijsterveld_left", "van_bijsterveld", "saliva_unstimulated", "focus_score",
        "focal_lymphocytic_sialadenitis", "sgus_parotid_right", "sgus_parotid_left", "sgus_submandibular_right",
        "sgus_submandibular_left",
    ),
    also=carried_column("glands"),
    columns={
        **interval_columns("glands", "positive gland tests"),
        **{f"glands_{test}": _ANSWER for test in (*_OF_EYES, "saliva", "biopsy", "ultrasound")},
        **{f"glands_{test}_{eye}": _ANSWER for test in _OF_EYES for eye in ("right", "left")},
    },
)  # fmt: skip
